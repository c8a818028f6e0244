"""Every evaluation's results say protocol, decoder, views, seeds and baselines; new ones are found by the table."""

import inspect
import json

import pytest

from mmssl.clip import Span
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.boxed_pictures import coco_boxes
from mmssl.evaluation.complete import missing
from mmssl.evaluation.detector import Detector
from mmssl.evaluation.few_labels import FewLabels
from mmssl.evaluation.propagation import Propagation
from mmssl.evaluation.supervised import Recipe
from mmssl.localization.evaluate import evaluate_localization
from mmssl.nn.encoders import Encoders
from pipelines.evaluate import write_results
from tests.batches import small_encoders
from tests.evaluation.masks import discs, write_frames
from tests.evaluation.oracle import planted_run, planted_shards
from tests.evaluation.pictures import write_classes, write_coco, write_squares
from tests.evaluation.shades import shade_run, shade_shards

#: what a parameter of that name is given, for evaluations whose parameters are all among these or have defaults
GIVEN = {
    "picture": Span(0.4, 5),
    "seconds": 0.4,
    "rate": 5.0,
    "size": 48,
    "seeds": 2,
    "workers": 0,
    "batch_size": 16,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return {"encoders": planted_run(folder / "run"), "shards": planted_shards(folder / "shards", 24), "folder": folder}


def propagation(world):
    clips = world["folder"] / "frames"
    write_frames(clips, discs(4, size=48), "one")
    return EVALUATIONS["propagation"](world["encoders"], clips, how=Propagation(strides=(4,), grey=False))


def localization(world):
    head = Encoders.load_head(world["encoders"], "av_localization")
    bundle = Encoders.from_pretrained(world["encoders"])
    return evaluate_localization(bundle, head, world["shards"], size=48, workers=0, batch_size=8)


def pictures(world):
    """A run whose encoders have levels, as dense transfers need."""
    run = world["folder"] / "pictures"
    small_encoders().save(run / "encoders")
    return run


def image(world):
    for part, seed in (("train", 1), ("test", 2)):
        write_classes(world["folder"] / "classes" / part, 6, seed=seed)
    return EVALUATIONS["image"](pictures(world), world["folder"] / "classes", seeds=2, size=32)


def segmentation(world):
    for part, seed in (("train", 1), ("test", 2)):
        write_squares(world["folder"] / "squares" / part, 6, seed=seed)
    return EVALUATIONS["segmentation"](pictures(world), world["folder"] / "squares", size=48, seeds=2, cells=500)


def detection(world):
    folder = world["folder"] / "boxes"
    for part, seed in (("train", 1), ("test", 2)):
        write_coco(folder / part, 4, seed=seed)
    sets = coco_boxes(folder / "train.json", folder / "test.json", folder / "train", folder / "test")
    how = Detector(size=48, steps=2, batch_size=2, channels=16, proposals=20)
    return EVALUATIONS["detection"](pictures(world), sets, how=how, seeds=2)


def retrieval(world):
    run, shards = shade_run(world["folder"] / "shades"), shade_shards(world["folder"] / "shaded")
    return EVALUATIONS["retrieval"](run, shards, head="sounds", seeds=2, size=32, workers=0, batch_size=7, seconds=0.5)


BRIEF = Recipe(epochs=1, learning_rates=(1e-3,), layer_decays=(1.0,))
CLIPS = {"picture": Span(0.4, 5), "size": 48, "seeds": 2, "workers": 0, "views": 1, "crops": 1}


def finetune(world):
    return EVALUATIONS["finetune"](world["encoders"], world["shards"], recipe=BRIEF, **CLIPS)


def few_labels(world):
    how = FewLabels(shares=(0.5,), steps=2, student_steps=2, recipe=BRIEF)
    return EVALUATIONS["few_labels"](world["encoders"], world["shards"], how=how, **CLIPS)


#: evaluations that need more than the table of parameters above
EXAMPLES = {
    function.__name__: function
    for function in (propagation, localization, image, segmentation, detection, retrieval, finetune, few_labels)
}


def by_parameters(name, world):
    """Call an evaluation with what its parameters' names ask for."""
    function = EVALUATIONS[name]
    known = GIVEN | world
    given = {p: known[p] for p in inspect.signature(function).parameters if p in known}
    try:
        return function(**given)
    except Exception as error:
        pytest.fail(
            f"evaluation '{name}' cannot be run with {sorted(given)} on the planted world ({type(error).__name__}: "
            f"{error}); add a function that runs it to EXAMPLES in {__file__}"
        )


@pytest.mark.parametrize("name", sorted({*EVALUATIONS, "localization"}))
def test_results_of_every_evaluation_are_complete(name, world, tmp_path):
    scores = EXAMPLES[name](world) if name in EXAMPLES else by_parameters(name, world)
    results = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    lacks = missing(results, versions=False)
    assert not lacks, f"as_dict() of the evaluation '{name}' lacks:\n  " + "\n  ".join(lacks)
    assert results["evaluation"] == name
    path = write_results(tmp_path, scores.as_dict())
    assert missing(json.loads(path.read_text())) == []


def test_what_is_missing_is_named():
    full = {
        "evaluation": "x",
        "protocol": {"linear": "x-linear-v2"},
        "decoder": "pyav",
        "views": 1,
        "seeds": 5,
        "linear": {"random_init": {"mean": 0.1}},
        "versions": {"torch": "2"},
    }
    assert missing(full) == []
    for name in ("evaluation", "protocol", "decoder", "views", "seeds", "versions"):
        [said] = missing({k: v for k, v in full.items() if k != name})
        assert said.startswith(f"`{name}`")
    [said] = missing({k: v for k, v in full.items() if k != "linear"})
    assert said.startswith("baselines: none of")
    assert "got 'linear'" in missing(full | {"protocol": "linear"})[0]
