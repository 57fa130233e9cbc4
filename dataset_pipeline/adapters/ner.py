"""Models that find names in texts: spaCy, Hugging Face token classifiers and GLiNER, where they are installed.

Nothing is downloaded: a model that is not on this machine is an error that says how to get it. Belongs here:
loading models and reading their answers. Does not belong here: patterns (``persons.py``) and
what a finding is worth beside them (``presidio.py``).
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from dataset_pipeline.config import NerModel
from dataset_pipeline.errors import OutsideWorldError

Found = tuple[str, int, int, float]
"""Entity, start, end, score."""

MODEL_SCORE: Final = 0.85
"""Of what spaCy finds, which gives no score of its own; Presidio uses the same."""

# Labels of the models that are in use: OntoNotes, CoNLL and WikiNER, and what PII models are trained on.
_LABELS: Final[Mapping[str, str]] = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "PERSNAME": "PERSON",
    "GIVENNAME": "PERSON",
    "SURNAME": "PERSON",
    "LOCATION": "LOCATION",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "FAC": "LOCATION",
    "PLACENAME": "LOCATION",
    "GEOGNAME": "LOCATION",
    "ADDRESS": "ADDRESS",
    "ORGANIZATION": "ORGANIZATION",
    "ORG": "ORGANIZATION",
    "ORGNAME": "ORGANIZATION",
    "NORP": "NRP",
    "NATIONALITY": "NRP",
    "DATE": "DATE_TIME",
    "TIME": "DATE_TIME",
}
_ASKED_OF_GLINER: Final[Mapping[str, str]] = {
    "person": "PERSON",
    "location": "LOCATION",
    "postal address": "ADDRESS",
    "organization": "ORGANIZATION",
    "nationality or religious group": "NRP",
    "date": "DATE_TIME",
}
_BATCH: Final = 128


class Model(Protocol):
    """A loaded model."""

    def search(self, texts: Sequence[str], entities: frozenset[str]) -> list[list[Found]]:
        """What it finds of the entities, text by text; the same whatever stands beside a text."""
        ...


def missing(language: str, model: NerModel) -> str | None:
    """What has to be installed before the model can be loaded, and how; None where nothing is missing."""
    where = f"pii.ner_models.{language}: the {_NAMES[model.engine]} model '{model.model}'"
    is_folder = Path(model.model).is_dir()
    if model.engine == "spacy":
        if is_folder or _is_spacy_package(model.model):
            return None
        return (
            f"{where} is not installed. Install it with: pip install {model.model.replace('_', '-')}; "
            "or remove the line: then only patterns are searched"
        )
    if importlib.util.find_spec(model.engine) is None:
        return f"{where} needs the library '{model.engine}'. Install it with: pip install {model.engine}"
    if is_folder or _is_in_hub_cache(model.model):
        return None
    return (
        f"{where} is neither a folder nor in the local Hugging Face cache. Get it on a machine with a network with: "
        f"hf download {model.model}; or name the folder that holds it. A build downloads nothing"
    )


_NAMES: Final = {"spacy": "spaCy", "transformers": "transformers", "gliner": "GLiNER"}


def _is_spacy_package(name: str) -> bool:
    """Whether a model package of that name is installed; a module that is there is no model yet."""
    import spacy

    return bool(spacy.util.is_package(name))


def _is_in_hub_cache(name: str) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return any((hub / f"models--{name.replace('/', '--')}" / "snapshots").glob("*/*"))


def load(language: str, model: NerModel) -> Model:
    """The model, ready to search. Raises ``OutsideWorldError`` where it is missing or cannot find names."""
    if problem := missing(language, model):
        fault, _, remedy = problem.partition(". ")
        raise OutsideWorldError(fault, hint=remedy)
    kinds: dict[str, Callable[[NerModel], Model]] = {
        "spacy": _Spacy,
        "transformers": _Transformers,
        "gliner": _Gliner,
    }
    try:
        return kinds[model.engine](model)
    except (OSError, ValueError, KeyError) as error:
        raise OutsideWorldError(
            f"pii.ner_models.{language}: the {_NAMES[model.engine]} model '{model.model}' cannot be loaded: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}",
            hint=f"Name an installed {_NAMES[model.engine]} model or the folder of one; or remove the line",
        ) from None


def versions(models: Mapping[str, NerModel]) -> dict[str, str]:
    """Versions of the libraries and model packages that decide what is found."""
    import importlib.metadata

    names: set[str] = {model.engine for model in models.values()}
    names |= {model.model for model in models.values() if model.engine == "spacy"}
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            found[name] = ""  # a folder: its path is among the settings
    return found


def _entities_of(model: NerModel) -> dict[str, str]:
    return {label.upper(): entity for label, entity in model.labels.items()} or dict(_LABELS)


def _sorted(found: Sequence[Found], entities: frozenset[str]) -> list[Found]:
    return sorted({f for f in found if f[0] in entities and f[1] < f[2]})


class _Spacy:
    """A spaCy pipeline, of which only what names need is run."""

    def __init__(self, model: NerModel) -> None:
        import spacy

        self._pipeline = spacy.load(model.model)
        if "ner" not in self._pipeline.pipe_names:
            raise ValueError(
                f"it finds no names: it has no component 'ner', only {', '.join(self._pipeline.pipe_names)}"
            )
        # Lemmas, tags and parses are for context words, which are not used: twice as fast without.
        self._pipeline.select_pipes(enable=_with_upstream(self._pipeline))
        self._entities = _entities_of(model)

    @property
    def components(self) -> list[str]:
        """Names of the components that run."""
        return list(self._pipeline.pipe_names)

    def search(self, texts: Sequence[str], entities: frozenset[str]) -> list[list[Found]]:
        """See :class:`Model`."""
        return [
            _sorted(
                [
                    (self._entities.get(e.label_.upper(), ""), e.start_char, e.end_char, MODEL_SCORE)
                    for e in document.ents
                ],
                entities,
            )
            for document in self._pipeline.pipe(texts, batch_size=_BATCH)
        ]


def _with_upstream(pipeline: Any) -> list[str]:
    """The component that finds names, and the shared vectors it listens to, if it has none of its own."""
    nodes = pipeline.get_pipe("ner").model.walk()
    is_listening = any(node.name.endswith("-listener") for node in nodes)
    wanted = {"ner", "tok2vec", "transformer"} if is_listening else {"ner"}
    return [name for name in pipeline.pipe_names if name in wanted]


class _Transformers:
    """A token classifier of Hugging Face transformers."""

    def __init__(self, model: NerModel) -> None:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        tokenizer = transformers.AutoTokenizer.from_pretrained(model.model, local_files_only=True)
        classifier = transformers.AutoModelForTokenClassification.from_pretrained(
            model.model, local_files_only=True
        )
        # Words, not word pieces; longer texts than the model takes go through it in overlapping stretches.
        self._pipeline = transformers.pipeline(
            "token-classification",
            model=classifier,
            tokenizer=tokenizer,
            aggregation_strategy="first",
            stride=32,
        )
        self._entities = _entities_of(model)

    def search(self, texts: Sequence[str], entities: frozenset[str]) -> list[list[Found]]:
        """See :class:`Model`. One text at a time: padding beside longer ones would change scores."""
        return [
            _sorted(
                [
                    (
                        self._entities.get(answer["entity_group"].upper(), ""),
                        int(answer["start"]),
                        int(answer["end"]),
                        round(float(answer["score"]), 4),
                    )
                    for answer in (self._pipeline(text) if text.strip() else ())
                ],
                entities,
            )
            for text in texts
        ]


class _Gliner:
    """A GLiNER model, which finds what it is asked for in words."""

    def __init__(self, model: NerModel) -> None:
        import gliner

        self._model = gliner.GLiNER.from_pretrained(model.model, local_files_only=True)
        self._entities: Mapping[str, str] = model.labels or dict(_ASKED_OF_GLINER)

    def search(self, texts: Sequence[str], entities: frozenset[str]) -> list[list[Found]]:
        """See :class:`Model`."""
        asked = [label for label, entity in self._entities.items() if entity in entities]
        if not asked:
            return [[] for _ in texts]
        return [
            _sorted(
                [
                    (
                        self._entities[answer["label"]],
                        int(answer["start"]),
                        int(answer["end"]),
                        round(float(answer["score"]), 4),
                    )
                    for answer in self._model.predict_entities(text, asked, threshold=0.3)
                ],
                entities,
            )
            for text in texts
        ]
