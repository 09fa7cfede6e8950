import numpy as np
import pytest
from sklearn import decomposition
from sklearn.manifold import trustworthiness
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from landscape.errors import ConfigurationError
from landscape_projectors.autoencoder import Autoencoder
from landscape_projectors.binary import BinaryEncoder
from landscape_projectors.composite import Chain
from landscape_projectors.layouts import TSNE
from landscape_projectors.pca import PCA
from landscape_projectors.planes import ThreePoints
from landscape_projectors.sklearn import ProjectorTransformer
from landscape_projectors.som import SOM

ESTIMATORS = [
    ProjectorTransformer(random_state=0),
    ProjectorTransformer(SOM(rows=4, columns=4), random_state=0),
    ProjectorTransformer(Autoencoder(iterations=10), random_state=0),
    ProjectorTransformer(TSNE(iterations=250), random_state=0),
    ProjectorTransformer(BinaryEncoder(), random_state=0),
    ProjectorTransformer(ThreePoints(), random_state=0),
    ProjectorTransformer(Chain(PCA(dimensions=2), SOM(rows=3, columns=3)), random_state=0),
]


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings and look at them themselves
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one.projector).__name__)
def test_it_keeps_the_rules_of_scikit_learn(estimator):
    for candidate, check in estimator_checks_generator(estimator):
        if "array_api" not in str(check):  # asks for an environment variable to be set
            check(candidate)


def test_principal_components_are_those_of_scikit_learn(curved):
    found = ProjectorTransformer(PCA())
    reference = decomposition.PCA(2).fit(curved)
    coordinates = found.fit_transform(curved)
    expected = reference.transform(curved)
    signs = np.sign(np.sum(coordinates * expected, axis=0))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(coordinates * signs, expected, rtol=0, atol=1e-10 * scale)
    further = curved[:9] + np.linspace(0, 1, 200)
    np.testing.assert_allclose(found.transform(further) * signs, reference.transform(further), atol=1e-9)
    np.testing.assert_allclose(
        found.inverse_transform(coordinates), reference.inverse_transform(expected), atol=1e-9
    )
    assert found.projection_.explained == pytest.approx(reference.explained_variance_ratio_, rel=1e-10)


def test_it_stands_in_a_pipeline(curved):
    pipeline = make_pipeline(StandardScaler(), ProjectorTransformer(SOM(rows=6, columns=6)))
    picture = pipeline.fit_transform(curved)
    assert picture.shape == (60, 2)
    assert trustworthiness(pipeline[0].transform(curved), picture, n_neighbors=10) > 0.9
    assert list(pipeline.get_feature_names_out()) == ["projectortransformer0", "projectortransformer1"]


def test_what_has_no_inverse_says_so(curved):
    found = ProjectorTransformer(BinaryEncoder(threshold=5.0)).fit(curved)
    with pytest.raises(ConfigurationError, match="A BinaryProjection has no inverse"):
        found.inverse_transform(np.zeros((1, 2)))
