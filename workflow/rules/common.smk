# Access to the configuration, and the paths of inputs and results.

import sys

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from s3fuse.errors import S3FuseError
from s3fuse.urls import S3Url


def refuse(message):
    """End with one sentence: what is wrong with the configuration, and where."""
    print(f"Configuration: {message}", file=sys.stderr)
    raise SystemExit(2)


def check_config():
    """Compare the configuration with its schema, and name the first key that is wrong."""
    schema = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
    schema = yaml.safe_load((schema / "../schemas/config.schema.yaml").read_text())
    error = best_match(Draft202012Validator(schema).iter_errors(config))
    if error:
        key = ".".join(map(str, error.absolute_path)) or "the file"
        refuse(f"{key}: {error.message}. {error.schema.get('description', '')}".strip())
    for name, settings in config["datasets"].items():
        first, last = settings["baseline"]
        if first > last:
            refuse(f"datasets.{name}.baseline: {first} comes after {last}.")


check_config()

DATASETS = config["datasets"]


def located(location):
    """An S3 URL as a storage object; a local path as it is."""
    if "://" not in location:
        return local(location)
    try:
        S3Url.parse(location.replace("{", "").replace("}", ""))
    except S3FuseError as error:
        refuse(str(error))
    return storage.s3(location)


def result(path):
    """A file below the place for results."""
    return located(f"{config['results'].rstrip('/')}/{path}")


def results(pattern, **wildcards):
    """The files that a pattern below the place for results stands for."""
    return [result(path) for path in expand(pattern, **wildcards)]


def all_of(dataset):
    """The files of a dataset: each as it is named, or all that its pattern finds."""
    found = []
    for pattern in DATASETS[dataset]["files"]:
        if "*" not in pattern:
            found.append(located(pattern))
            continue
        template = pattern.replace("*", "{part}") if pattern.count("*") == 1 else None
        if template is None:
            refuse(f"datasets.{dataset}.files: {pattern!r} may contain one '*', not more.")
        parts = sorted(glob_wildcards(located(template)).part)
        parts = [part for part in parts if "/" not in part]
        if not parts:
            refuse(
                f"datasets.{dataset}.files: nothing matches {pattern!r}; check bucket and names."
            )
        found.extend(located(template.format(part=part)) for part in parts)
    return found


# Listed once: input functions are called for every job.
FILES = {dataset: all_of(dataset) for dataset in DATASETS}


def files_of(wildcards):
    return FILES[wildcards.dataset]


def buckets_of(wildcards):
    """The buckets that a dataset lies in, to be mounted before it is read."""
    locations = DATASETS[wildcards.dataset]["files"]
    buckets = {S3Url.split(path).bucket for path in locations if "://" in path}
    return [ancient(storage.s3(f"s3://{bucket}")) for bucket in sorted(buckets)]
