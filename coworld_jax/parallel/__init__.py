"""One program on several devices: the only room that knows meshes and `jax.pmap`.

Every device holds the whole state, takes its share of each batch, and averages gradients over the
axis `AXIS`. Every accelerator holds the whole store as well; the cores of a CPU read one copy.
Noise belongs to examples and not to devices, so that any number of devices computes the same update
up to rounding.
"""

from jax.sharding import Mesh

from coworld_jax.parallel.meshes import (
    AXIS,
    acting_device,
    check_precision,
    check_seeds,
    idle_devices,
    make_mesh,
    make_seed_mesh,
    most_cores,
    trains_on_cores,
)
from coworld_jax.parallel.placement import (
    check_equal,
    columns,
    keep,
    lend,
    of_all_seeds,
    of_first,
    on_host,
    replicate,
    shapes_on_one_device,
    share_columns,
    share_seeds,
    show,
)
from coworld_jax.parallel.programs import (
    Compiled,
    Program,
    compile_program,
    jit_donating,
    share_batches,
    split_seeds,
    spread,
)

__all__ = [
    "AXIS",
    "Compiled",
    "Mesh",
    "Program",
    "acting_device",
    "check_equal",
    "check_precision",
    "check_seeds",
    "columns",
    "compile_program",
    "idle_devices",
    "jit_donating",
    "keep",
    "lend",
    "make_mesh",
    "make_seed_mesh",
    "most_cores",
    "of_all_seeds",
    "of_first",
    "on_host",
    "replicate",
    "shapes_on_one_device",
    "share_batches",
    "share_columns",
    "share_seeds",
    "show",
    "split_seeds",
    "spread",
    "trains_on_cores",
]
