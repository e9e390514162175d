# Access to the configuration, and the paths of inputs and results.

import hashlib
import html
import os
import re
import sys
from datetime import UTC, datetime
from functools import cache

from s3fuse import __version__ as s3fuse_version
from s3fuse.errors import S3FuseError
from s3fuse.urls import FOLDER_LEAF, S3Url
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_storage_plugin_s3fuse import listed, unmount

# Modules of the rules; those of the scripts need Iris, which takes a second.
sys.path.append(f"{workflow.current_basedir.get_path_or_uri(secret_free=True)}/../lib")
import configuration

# Nodes that share no local copies of objects mount for themselves.
JOBS_RUN_HERE = (
    SharedFSUsage.STORAGE_LOCAL_COPIES in workflow.storage_settings.shared_fs_usage
)


def refuse(message):
    """End with one sentence: what is wrong with the configuration, and where."""
    print(f"Configuration: {message}", file=sys.stderr)
    raise SystemExit(2)


def located(location, retrieve=True):
    """An S3 URL as a storage object; a local path as it is.

    What is not to be retrieved is no more than waited for.
    """
    if "://" not in location:
        if not JOBS_RUN_HERE:
            refuse(
                f"{location} is on this machine; jobs on other nodes need s3:// locations."
            )
        return local(location)
    return storage.s3(location, retrieve=retrieve)


def listed_folders(folders):
    """Names of what lies in folders of buckets."""
    return listed(storage.s3, folders)


try:
    CONFIGURATION = configuration.read(config, listed_folders)
except configuration.ConfigError as error:
    refuse(error)
except WorkflowError as error:
    refuse(f"archives: {error}")
try:
    S3Url.parse(config["results"]) if "://" in config["results"] else None
except S3FuseError as error:
    refuse(f"results: {error}")

DATASETS = CONFIGURATION.datasets
ENSEMBLES = CONFIGURATION.ensembles
# What was found in archives, and figures of all of that.
MODELS = CONFIGURATION.models
MULTI_MODELS = CONFIGURATION.multi_models


FORMATS = ["png", "pdf"]

PRODUCTS = [
    "monthly_climatology",
    "seasonal_climatology",
    "monthly_anomaly",
    "seasonal_anomaly",
    "extracted",
    "regridded",
    "trend",
    "percentiles",
    "regional_series",
]

# That of the series of regions is drawn by a rule of its own.
FIGURES_OF = [product for product in PRODUCTS if product != "regional_series"]


def products_of(dataset):
    """What a dataset asks for, each with its options."""
    return DATASETS[dataset].get("products", {})


def asking_for(product):
    """The datasets that ask for a product."""
    return [name for name in DATASETS if product in products_of(name)]


def steps_of(dataset):
    """The steps of the user's own for a dataset, each with its function and arguments."""
    return described(dataset).get("steps", {})


def sources_of_steps(dataset):
    """A checksum of the module of each step, so that another one runs the step again."""
    return {
        name: source_of(step["function"]) for name, step in steps_of(dataset).items()
    }


def source_of(function):
    """A checksum of the module of a function, if it is in this folder."""
    parts = function.partition(":")[0].split(".")
    for path in (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")):
        if path.exists():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def result(path, retrieve=True):
    """A file below the place for results, or a folder that ends with a slash."""
    file = located(f"{config['results'].rstrip('/')}/{path}", retrieve)
    is_local_folder = "://" not in config["results"] and path.endswith(os.sep)
    return directory(file) if is_local_folder else file


def results(pattern, **wildcards):
    """The files that a pattern below the place for results stands for."""
    return [result(path) for path in expand(pattern, **wildcards)]


def described(name):
    """The entry of a dataset, of a dataset of an archive, or of an ensemble."""
    return DATASETS.get(name) or MODELS.get(name) or ENSEMBLES[name]


def constraint_of(wildcards):
    """What to load of a dataset or an ensemble: a name, or a name and its coordinates."""
    entry = described(wildcards.dataset)
    if "level" not in entry:
        return escaped(entry["constraint"])
    constraint = entry["constraint"]
    if isinstance(constraint, str):
        constraint = {"name": constraint}
    coordinates = {**constraint.get("coordinates", {}), **entry["level"]}
    return escaped({**constraint, "coordinates": coordinates})


def units_of(wildcards):
    """The units that a dataset or an ensemble is converted to, or None."""
    return escaped(described(wildcards.dataset).get("units"))


@cache
def all_of(dataset):
    """The files of a dataset: each as it is named, or all that its pattern finds.

    Listed once, and only for the jobs that this process is for.
    """
    if dataset in MODELS:
        return [located(file) for file in MODELS[dataset]["files"]]
    found = []
    for pattern in described(dataset)["files"]:
        try:
            found += matches(pattern)
        except (LookupError, WorkflowError, S3FuseError) as error:
            kind = "datasets" if dataset in DATASETS else "ensembles"
            refuse(f"{kind}.{dataset}.files: {error.args[0]}")
    return found


def is_there(file):
    """Whether a file or object exists.  Snakemake's own exists() cannot be asked by a rule."""
    found = file.flags.get("storage_object")
    return found.exists() if found else Path(file).exists()


def matches(pattern):
    """The files that a pattern with '*' or '**' stands for; at least one."""
    if "*" in pattern:
        found = configuration.matching(pattern, listed_folders)
        return [located(file) for file in found]
    file = located(pattern)
    if not is_there(file):
        place = "the bucket" if "://" in pattern else "its folder"
        raise LookupError(
            f"{pattern} is not in {place}; check the name and its spelling."
        )
    return [file]


def files_of(wildcards):
    return all_of(wildcards.dataset)


# Any whole bucket, as a folder.
BUCKET = storage.s3("s3://{bucket}")


def buckets_of(wildcards):
    """The buckets that a dataset lies in, to be mounted before it is read."""
    locations = described(wildcards.dataset)["files"]
    buckets = {S3Url.split(path).bucket for path in locations if "://" in path}
    return [ancient(storage.s3(f"s3://{bucket}")) for bucket in sorted(buckets)]


def escaped(value):
    """Escape HTML in all strings of a value.

    Snakemake writes the parameters of jobs into its report as they are, within a script.
    The scripts of the workflow undo this, see `job.unescaped`.
    """
    match value:
        case str():
            return html.escape(value, quote=False)
        case dict():
            return {escaped(key): escaped(inner) for key, inner in value.items()}
        case list():
            return [escaped(inner) for inner in value]
    return value


def names_of(wildcards, input):
    """What the inputs of a job are called by people, for its messages."""
    prefix = f"{BUCKET.flags['storage_object'].provider.local_prefix}/"
    return [escaped(name_of(path, prefix)) for path in map(str, input)]


def name_of(path, prefix):
    """What an input is called: the URL of an object or a folder, or its path."""
    if not path.startswith(prefix):
        return path
    return f"s3://{path.removeprefix(prefix).removesuffix(FOLDER_LEAF)}"


def objects_of(dataset):
    """The files of a dataset as they are now: name, version, time and bytes of each."""
    return [described_file(file) for file in all_of(dataset)]


def provenance_of(wildcards, input):
    """What a job writes into its result: the program, and the objects that it reads.

    Snakemake runs no job again for a parameter that is made of its inputs; a new version
    of an object is newer than the result, and that is a reason to.
    """
    sources = objects_of(wildcards.dataset) if "files" in input.keys() else []
    program = f"snakemake-storage-plugin-s3fuse {s3fuse_version}"
    return {"program": program, "sources": escaped(sources)}


def sources_of(dataset):
    """How many files a dataset has, and the first of them, for captions."""
    files = objects_of(dataset)
    return {"count": len(files), "first": files[:5]}


def described_file(file):
    """What a file or object is called, its ETag, when it was written, and its bytes."""
    found = file.flags.get("storage_object")
    if found is None:
        status = Path(file).stat()
        name, etag, mtime, size = str(file), "", status.st_mtime, status.st_size
    else:
        info = found.version
        name, etag, mtime, size = str(found.url), info.etag, info.mtime, info.size
    written = datetime.fromtimestamp(mtime, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"name": name, "etag": etag, "written": written, "bytes": size}


def archive_of(wildcards):
    """The name of the archive of a multi-model entry."""
    return MULTI_MODELS[wildcards.multi_model]["archive"]


def models_of(wildcards):
    """The datasets of the archive of a multi-model entry."""
    return CONFIGURATION.archives[archive_of(wildcards)]


def mount_bucket(bucket):
    """Mount a bucket, and make the link that stands for it."""
    BUCKET.flags["storage_object"].provider.object(f"s3://{bucket}").retrieve_object()


def unmount_buckets():
    """Unmount all that this run has mounted; wait for those who still read."""
    unmount(storage.s3)


def tell_of_left_out():
    """Print last which models are left out."""
    for name in MULTI_MODELS:
        path = Path(f"logs/complete/{name}.log")
        if path.exists() and (text := path.read_text()) != "done\n":
            print(text, end="", file=sys.stderr)
