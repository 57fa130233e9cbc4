"""Runs one program beside this pipeline, in the environment of requirements.txt: JSON in, JSON out.

    .venv-peers/bin/python benchmarks/peers/run.py TASK REQUEST.json REPLY.json

Belongs here: calls of those programs with their own defaults, and how long the call took without imports. Does not
belong here: anything of this project, and any judgement. ``__init__.py`` calls it.
"""

import contextlib
import io
import json
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import combinations
from pathlib import Path


class Timer:
    """Wall-clock seconds, and seconds of CPU of this process and its children."""

    def __init__(self):
        self._started = time.perf_counter(), self._cpu()

    def __call__(self):
        """What has passed."""
        return {
            "seconds": time.perf_counter() - self._started[0],
            "cpu_seconds": self._cpu() - self._started[1],
        }

    @staticmethod
    def _cpu():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)


def versions(request):
    """Package -> installed version."""
    return {name: version(name) for name in request["packages"]}


def imagededup_hashes(request):
    """``hashes``: file name -> pHash as a hexadecimal number, of every picture of ``folder``."""
    from imagededup.methods import PHash

    encoder = PHash(verbose=False)
    timer = Timer()
    hashes = encoder.encode_images(request["folder"])
    return {"hashes": hashes, **timer()}


def imagededup_pairs(request):
    """``found``: hashes that differ from each of the first ``queries`` in ``distance`` bits at most, over all of them."""
    from imagededup.handlers.search.retrieval import HashEval
    from imagededup.methods import PHash

    hashes = request["hashes"]
    queries = {name: hashes[name] for name in list(hashes)[: request["queries"]]}
    timer = Timer()
    # What find_duplicates does, which takes every hash for a query.
    result = HashEval(
        test=hashes,
        queries=queries,
        distance_function=PHash.hamming_distance,
        verbose=False,
        threshold=request["distance"],
    )
    return {"found": sum(map(len, result.retrieve_results().values())), **timer()}


def cleanvision(request):
    """``issues``: file name -> issue types found; ``sets``: kind of duplicate -> lists of file names."""
    from cleanvision import Imagelab

    timer = Timer()
    lab = Imagelab(data_path=request["folder"], verbose=False)
    lab.find_issues(verbose=False)
    took = timer()
    types = [name[3:-6] for name in lab.issues.columns if name.startswith("is_") and name.endswith("_issue")]
    return {
        "issues": {
            Path(file).name: [name for name in types if row[f"is_{name}_issue"]]
            for file, row in lab.issues.iterrows()
        },
        "sets": {
            kind: [[Path(file).name for file in names] for names in lab.info[kind]["sets"]]
            for kind in ("exact_duplicates", "near_duplicates")
        },
        **took,
    }


def datasketch(request):
    """``pairs``: what a MinHashLSH returns for each text's ``shingles``, and the estimate of their similarity."""
    from datasketch import MinHash, MinHashLSH

    count = request["permutations"]
    timer = Timer()
    index = MinHashLSH(threshold=request["threshold"], num_perm=count)
    signatures, pairs = [], []
    for row, shingles in enumerate(request["shingles"]):
        signature = MinHash(num_perm=count)
        signature.update_batch([shingle.encode() for shingle in shingles])
        pairs += [(other, row, signatures[other].jaccard(signature)) for other in index.query(signature)]
        index.insert(row, signature)
        signatures.append(signature)
    return {"pairs": pairs, **timer()}


def text_dedup(request):
    """``pairs``: texts in one cluster, of texts whose words are ``shingles``."""
    import datasets

    datasets.disable_progress_bars()
    from text_dedup import minhash

    rows = [{"text": " ".join(shingle.encode().hex() for shingle in of)} for of in request["shingles"]]
    with tempfile.TemporaryDirectory() as folder:
        datasets.Dataset.from_list(rows).save_to_disk(f"{folder}/texts")
        options = {
            "path": f"{folder}/texts",
            "output": f"{folder}/kept",
            "cache_dir": f"{folder}/cache",
            "column": "text",
            "ngram": 1,
            "min_length": 1,
            "num_perm": request["permutations"],
            "threshold": request["threshold"],
        }
        call = ["--local", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        timer = Timer()
        minhash.main.main(call, standalone_mode=False)
        took = timer()
    clusters = {}
    for row in range(len(rows)):
        clusters.setdefault(minhash.uf.find(row), []).append(row)
    return {
        "pairs": [pair for cluster in clusters.values() for pair in combinations(cluster, 2)],
        **took,
    }


TASKS = {
    task.__name__: task
    for task in (versions, imagededup_hashes, imagededup_pairs, cleanvision, datasketch, text_dedup)
}


def main():
    """Run one task."""
    task, request, reply = sys.argv[1:]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        answer = TASKS[task](json.loads(Path(request).read_text(encoding="utf-8")))
    Path(reply).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
