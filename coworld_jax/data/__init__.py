"""Datasets and replays: episode files on the disk, flat uint8 rows for the device.

What is read is checked, and what is wrong is named by file and key. Written are single files that
a kill leaves whole or absent.
"""

from coworld_jax.data.directory import Dataset, load_directory, validate_directory
from coworld_jax.data.episodes import load_episode, save_episode
from coworld_jax.data.faults import DataError, Fault
from coworld_jax.data.fingerprint import difference, fingerprint
from coworld_jax.data.memory import available_bytes, format_bytes, total_bytes, usable_cores
from coworld_jax.data.metadata import read_json, read_metadata, write_json, write_metadata
from coworld_jax.data.replay import Replay
from coworld_jax.data.shared import EpisodeFiles, share_episodes
from coworld_jax.data.streamed import StreamedFeed
from coworld_jax.data.survey import Summary, Survey, return_quantiles, summarise, survey

__all__ = [
    "DataError",
    "Dataset",
    "EpisodeFiles",
    "Fault",
    "Replay",
    "StreamedFeed",
    "Summary",
    "Survey",
    "available_bytes",
    "difference",
    "fingerprint",
    "format_bytes",
    "load_directory",
    "load_episode",
    "read_json",
    "read_metadata",
    "return_quantiles",
    "save_episode",
    "share_episodes",
    "summarise",
    "survey",
    "total_bytes",
    "usable_cores",
    "validate_directory",
    "write_json",
    "write_metadata",
]
