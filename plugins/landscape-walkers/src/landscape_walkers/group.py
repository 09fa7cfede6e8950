"""Mixed populations: several walkers side by side, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from landscape.errors import ConfigurationError
from landscape.interfaces import Walker
from landscape.validators import at_least
from landscape_walkers._values import PerWorker, check_names, check_positions, given, moving_rows, spread

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from landscape.objective import Landscape

__all__ = ["Group", "GroupState", "Share"]


@frozen
class Share:
    """A walker and how many of a population's workers it moves.

    Attributes
    ----------
    walker
        What moves them.
    count
        How many.

    Raises
    ------
    landscape.errors.ConfigurationError
        For what is no walker, a count below 1, and a walker that says another number of workers.
    """

    walker: Walker[Any]
    count: int = field(validator=at_least(1))

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.walker, Walker):
            raise ConfigurationError(
                f"Group: {self.walker!r} is not a walker; give pairs such as (SGD(lr=0.1), 5)."
            )
        if self.walker.workers not in (1, self.count):
            raise ConfigurationError(
                f"Group: {self.count} workers shall go to {type(self.walker).__name__}, which says "
                f"{self.walker.workers}; leave its number out, or give it that many."
            )


def _shares(members: Iterable[Any]) -> tuple[Share, ...]:
    shares = []
    for member in members:
        if isinstance(member, Share):
            shares.append(member)
        elif isinstance(member, Walker):
            shares.append(Share(member, member.workers))
        elif isinstance(member, Sequence) and len(member) == 2:
            shares.append(Share(*member))
        else:
            raise ConfigurationError(
                f"Group: {member!r} is no share of a population; give pairs such as (SGD(lr=0.1), 5)."
            )
    return tuple(shares)


@frozen(eq=False)
class GroupState:
    """Where a :class:`Group` stands.

    Attributes
    ----------
    members
        The states of the members.
    """

    members: tuple[Any, ...]


# What can stand for a share of a population.
_Member = Share | Walker[Any] | tuple[Walker[Any], int]


# With init=False attrs calls its own __attrs_init__, and type checkers know the __init__ below.
@frozen(init=False)
class Group(Walker[GroupState]):
    """A population in which not all walk alike: ``Group((SGD(lr=0.1, batch_size=64), 5), (GD(lr=0.1), 1))``.

    The workers stand in the order of the members, and a worker walks as it would under its member alone; of
    the random numbers a member asks for at the start, the first member sees those that it would see alone.
    A coupling may tie a group together, and a group may contain couplings.

    Hyper-parameters have the number of the member before their name: ``0.lr`` is that of the first member,
    for all its workers or one by one. The bare name, ``lr``, changes it for every member that has it; a tuple
    has one entry for each of the group's workers, and needs all members to have it. The bare name is listed
    where it has one value, or one for every worker.

    Further points of a member, such as a centre, are called ``group0_centre`` and so on. What members record
    stands in the rows of their own workers, NaN in the others'.

    Costs what its members cost together.

    Parameters
    ----------
    *members
        Pairs of a walker and a number of workers; a walker alone brings the number it says itself.

    Raises
    ------
    landscape.errors.ConfigurationError
        For anything else, and for a walker that says another number of workers.

    Examples
    --------
    >>> import landscape as ls
    >>> group = ls.walkers.Group((ls.walkers.SGD(lr=0.1, batch_size=64), 5), (ls.walkers.GD(lr=0.1), 1))
    >>> group.workers
    6
    >>> ls.walkers.EASGD(group).workers
    6
    """

    members: tuple[Share, ...] = field(converter=_shares)

    def __init__(self, *shares: _Member, members: Iterable[_Member] = ()) -> None:
        # Configurations and attrs.evolve give the field by its name.
        self.__attrs_init__(shares or members)

    def __attrs_post_init__(self) -> None:
        if not self.members:
            raise ConfigurationError("Group: a group needs members; give pairs such as (SGD(lr=0.1), 5).")

    @property
    def workers(self) -> int:
        """How many points all members move together."""
        return sum(share.count for share in self.members)

    def start(self, landscape: Landscape, positions: Tensor, generator: torch.Generator) -> GroupState:
        """Return the state at `positions`, shape (K, P), K being the number of workers of all members.

        Raises
        ------
        landscape.errors.ConfigurationError
            For positions of another shape or number than the members' workers.
        """
        positions = check_positions("Group", landscape, positions)
        if len(positions) != self.workers:
            raise ConfigurationError(
                f"Group: its members move {self.workers} workers together, and there are {len(positions)} "
                "positions; give as many."
            )
        return GroupState(
            tuple(
                share.walker.start(landscape, rows, generator)
                for share, rows in zip(self.members, self._split(positions), strict=True)
            )
        )

    def step(self, landscape: Landscape, state: GroupState, *, active: Tensor | None = None) -> GroupState:
        """Return the state after one step of every member."""
        masks: Sequence[Tensor | None] = [None] * len(self.members)
        if active is not None:
            moving_rows("Group", active, self.workers)
            masks = self._split(active)
        return GroupState(
            tuple(
                walker.step(landscape, member, active=mask)
                for walker, member, mask in zip(self._walkers(), state.members, masks, strict=True)
            )
        )

    def positions(self, state: GroupState) -> Tensor:
        """Return the workers' positions, shape (K, P), in the order of the members."""
        import torch

        return torch.cat([walker.positions(member) for walker, member in self._pairs(state)])

    def labelled(self, state: GroupState) -> Mapping[str, Tensor]:
        """Return what the members label, with ``group0_`` and so on before their labels."""
        return {
            f"group{number}_{label}": point
            for number, (walker, member) in enumerate(self._pairs(state))
            for label, point in walker.labelled(member).items()
        }

    def record(self, state: GroupState) -> Mapping[str, tuple[float, ...]]:
        """Return what the members record; NaN for the workers of members that do not."""
        columns: dict[str, list[float]] = {}
        for rows, (walker, member) in zip(self._slices(), self._pairs(state), strict=True):
            for name, values in walker.record(member).items():
                columns.setdefault(name, [float("nan")] * self.workers)[rows] = values
        return {name: tuple(values) for name, values in columns.items()}

    def relocate(self, state: GroupState, positions: Tensor) -> GroupState:
        """Return the state with the workers at `positions`, shape (K, P); all else stays.

        Raises
        ------
        landscape.errors.ConfigurationError
            For another number of positions than the members' workers.
        """
        if len(positions) != self.workers:
            raise ConfigurationError(
                f"Group: its members move {self.workers} workers together, and there are {len(positions)} "
                "positions; give as many."
            )
        return GroupState(
            tuple(
                walker.relocate(member, rows)
                for (walker, member), rows in zip(self._pairs(state), self._split(positions), strict=True)
            )
        )

    def hyperparameters(self, state: GroupState) -> Mapping[str, PerWorker]:
        """Return the members' hyper-parameters in force, by bare names and with the member's number."""
        each = [walker.hyperparameters(member) for walker, member in self._pairs(state)]
        listed: dict[str, PerWorker] = {}
        for name in dict.fromkeys(name for values in each for name in values):
            having = [values[name] for values in each if name in values]
            if len(set(having)) == 1 and not isinstance(having[0], tuple):
                listed[name] = having[0]
            elif len(having) == len(each):
                counts = [share.count for share in self.members]
                rows = [
                    spread("Group", name, value, count) for value, count in zip(having, counts, strict=True)
                ]
                listed[name] = tuple(entry for row in rows for entry in row)
        for number, values in enumerate(each):
            listed |= {f"{number}.{name}": value for name, value in values.items()}
        return listed

    def adjust(self, state: GroupState, **changes: PerWorker) -> GroupState:
        """Return the state with hyper-parameters of one member (``0.lr``) or of all that have it (``lr``).

        Raises
        ------
        landscape.errors.ConfigurationError
            For names that no member has, values outside of their range, and tuples of another length.
        """
        each = [walker.hyperparameters(member) for walker, member in self._pairs(state)]
        bare = {name for values in each for name in values}
        numbered = {f"{number}.{name}" for number, values in enumerate(each) for name in values}
        check_names("Group", list(changes), sorted(bare) + sorted(numbered - bare))
        theirs: list[dict[str, PerWorker]] = [{} for _ in each]
        # First the bare names, so that a member's own value wins.
        for name, change in sorted(changes.items(), key=lambda item: item[0] in numbered):
            if name in numbered:
                number, _, own = name.partition(".")
                theirs[int(number)][own] = given(change)
                continue
            self._share_out(name, given(change), each, theirs)
        return GroupState(
            tuple(
                walker.adjust(member, **own) if own else member
                for (walker, member), own in zip(self._pairs(state), theirs, strict=True)
            )
        )

    def _share_out(
        self,
        name: str,
        value: PerWorker,
        each: Sequence[Mapping[str, PerWorker]],
        theirs: Sequence[dict[str, PerWorker]],
    ) -> None:
        """Give every member its part of a hyper-parameter that goes to all."""
        if isinstance(value, tuple):
            without = [str(number) for number, values in enumerate(each) if name not in values]
            if without:
                raise ConfigurationError(
                    f"Group: {name}={value!r} has one entry for each worker, and member {', '.join(without)} has "
                    f"no {name}; give one number, or say whose it is, as in 0.{name}."
                )
            spread("Group", name, value, self.workers)
        for rows, values, own in zip(self._slices(), each, theirs, strict=True):
            if name not in values:
                continue
            part = value[rows] if isinstance(value, tuple) else value
            # A member whose workers share the number is given one number, where its entries agree.
            if isinstance(part, tuple) and len(set(part)) == 1:
                part = part[0]
            own[name] = part

    # -- members and their rows ---------------------------------------------------------------------------

    def _walkers(self) -> list[Walker[Any]]:
        return [share.walker for share in self.members]

    def _pairs(self, state: GroupState) -> list[tuple[Walker[Any], Any]]:
        return list(zip(self._walkers(), state.members, strict=True))

    def _slices(self) -> list[slice]:
        ends = list(accumulate(share.count for share in self.members))
        return [slice(end - share.count, end) for share, end in zip(self.members, ends, strict=True)]

    def _split(self, rows: Tensor) -> list[Tensor]:
        return [rows[part] for part in self._slices()]
