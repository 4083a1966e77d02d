"""Embeddings that are replaced by the medians of their clusters."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from tests.trainers.runs import STEPS, Notes, frames, tiny
from trainers import embeddings, signal
from trainers.embeddings import k_means, replace_embeddings_, replacement_step, silhouette
from trainers.idle import idle_keys
from trainers.settings import Reader

REPLACED = {"training_single_type": False, "embedding_replacement": "kmeans", "learning_rate_embedding_start": 0.05}


def groups(kinds=4, each=30, spread=0.05):
    """Return embeddings around a few places, and the place of each."""
    generator = torch.Generator().manual_seed(3)
    places = torch.tensor([[0.0, 0.0], [1.0, 0.2], [0.3, 1.1], [1.5, 1.4], [-1.0, 0.7]])[:kinds]
    labels = torch.arange(kinds).repeat_interleave(each)[torch.randperm(kinds * each, generator=generator)]
    return places[labels] + spread * torch.randn(kinds * each, 2, generator=generator), labels


@pytest.mark.parametrize("kinds", [2, 3, 4, 5])
def test_the_silhouette_finds_how_many_there_are(kinds):
    a, labels = groups(kinds)
    expected = torch.stack([a[labels == k].median(dim=0).values for k in range(kinds)])[labels]
    found = replace_embeddings_(a, 0, 8)
    assert adjusted_rand_score(labels, found) == 1.0
    assert torch.equal(a, expected) and len(a.unique(dim=0)) == kinds


def test_a_given_number_of_clusters_is_taken():
    a, _ = groups(4)
    assert len(replace_embeddings_(a, 2, 8).unique()) == 2 and len(a.unique(dim=0)) == 2


def test_silhouette_and_k_means_agree_with_another_implementation():
    points = torch.randn(80, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for clusters in (2, 3, 6):
        labels = k_means(points, clusters)
        assert silhouette(points, labels) == pytest.approx(silhouette_score(points, labels))
        best = KMeans(clusters, n_init=50, random_state=0).fit(points.numpy()).inertia_
        own = sum(float((points[labels == k] - points[labels == k].mean(0)).square().sum()) for k in range(clusters))
        assert own < 1.05 * best
    lonely = torch.cat([torch.zeros(79, dtype=torch.int64), torch.ones(1, dtype=torch.int64)])
    assert silhouette(points, lonely) == pytest.approx(silhouette_score(points, lonely))


def test_many_neurons_are_looked_at_in_part(monkeypatch):
    a, labels = groups(4, 100)
    monkeypatch.setattr(embeddings, "MOST_COMPARED", 50)
    assert adjusted_rand_score(labels, replace_embeddings_(a, 0, 8)) == 1.0


@pytest.mark.parametrize("clusters", [0, 1, 3, 9])
def test_neurons_that_are_all_the_same_stay_so(clusters):
    a = torch.ones(6, 2)
    replace_embeddings_(a, clusters, 8)
    assert torch.equal(a, torch.ones(6, 2))


def test_clusters_take_nothing_from_the_random_state_of_the_training():
    a, _ = groups()
    before = torch.get_rng_state()
    first = replace_embeddings_(a.clone(), 0, 8)
    torch.rand(5)
    assert torch.equal(first, replace_embeddings_(a.clone(), 0, 8))
    torch.set_rng_state(before)


class Embeddings(Notes):
    """Notes that keep the embeddings after every step."""

    def __init__(self):
        super().__init__()
        self.a = []

    def record(self, stateful, terms, phase, epoch, step):
        super().record(stateful, terms, phase, epoch, step)
        self.a.append(stateful["model"].a.detach().clone())


@pytest.mark.parametrize("rollout", [{}, {"neural_ODE_training": True, "ode_method": "rk4", "time_step": 2}])
def test_embeddings_are_free_before_and_fixed_after(rollout):
    run, (data, inputs) = Embeddings(), frames()
    keys = (
        REPLACED | rollout | {"data_augmentation_loop": 12, "embedding_clusters": 2, "embedding_replacement_at": 0.25}
    )
    model = signal.data_train_signal(
        Reader(tiny(**keys, lr_scheduler="cosine", lr_scheduler_scope="all")), data, inputs, run
    )
    at = len(run.a) // 4
    assert all(not torch.equal(left, right) for left, right in zip(run.a[: at - 1], run.a[1:at], strict=True))
    expected = run.a[at - 1].clone()
    replace_embeddings_(expected, 2, 8)
    assert all(torch.equal(a, expected) for a in run.a[at:]) and len(expected.unique(dim=0)) == 2
    assert model.a.requires_grad and run.rates[-1] != run.rates[at]


def test_it_acts_in_a_training_of_one_epoch():
    assert replacement_step(tiny(**REPLACED).training, 1000) == 500
    run, (data, inputs) = Embeddings(), frames()
    signal.data_train_signal(Reader(tiny(**REPLACED, n_epochs=1, embedding_clusters=1)), data, inputs, run)
    assert len(run.a) == STEPS and len(run.a[-1].unique(dim=0)) == 1 < len(run.a[0].unique(dim=0))


def test_no_more_clusters_are_tried_than_the_config_says(monkeypatch):
    """Four corners, which five neurons hold: four clusters, or two where no more may be."""
    corners = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0], [0.1, 0.1]])
    original = signal.new_model

    def apart(*args):
        model = original(*args)
        model.a.data.copy_(corners)
        return model

    monkeypatch.setattr(signal, "new_model", apart)
    found = []
    for most in (4, 2):
        run, (data, inputs) = Embeddings(), frames()
        config = tiny(**REPLACED, embedding_clusters_max=most)
        assert ("training.embedding_clusters_max" in idle_keys(config)) is False
        signal.data_train_signal(Reader(config), data, inputs, run)
        found.append(len(run.a[-1].unique(dim=0)))
    assert found == [4, 2]


def test_nothing_is_told_about_types():
    """Neither the number of types nor which they are."""
    assert set(inspect.signature(replace_embeddings_).parameters) == {"a", "clusters", "most"}
    source = inspect.getsource(embeddings)
    assert "n_neuron_types" not in source and "simulation" not in source
    assert np.isinf(replacement_step(tiny(embedding_replacement="kmeans").training, 100))
