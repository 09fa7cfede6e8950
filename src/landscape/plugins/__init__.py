"""Finding components, and telling plugins what happens.

Importing this imports neither torch nor any plugin.
"""

from landscape.plugins.entry import KINDS, ComponentEntry, base_classes
from landscape.plugins.lifecycle import PluginFailure, PluginWarning, RunHooks
from landscape.plugins.manager import HookPlugin, PluginManager
from landscape.plugins.registry import (
    Namespace,
    entries,
    get,
    identify,
    isolated,
    manager,
    names,
    namespace,
    register,
)
from landscape.plugins.specs import hookimpl, hookspec

__all__ = [
    "KINDS",
    "ComponentEntry",
    "HookPlugin",
    "Namespace",
    "PluginFailure",
    "PluginManager",
    "PluginWarning",
    "RunHooks",
    "base_classes",
    "entries",
    "get",
    "hookimpl",
    "hookspec",
    "identify",
    "isolated",
    "manager",
    "names",
    "namespace",
    "register",
]
