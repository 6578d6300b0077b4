"""The dense layer, its initialisers, and layer normalisation that every network is made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal

from coworld_jax.networks import deferred
from coworld_jax.networks.products import kernel_gradient
from coworld_jax.networks.recurrence import kept

Pair = tuple[jax.Array | None, jax.Array | None]  # for each input, None where it has no gradient


def kernel_init(initializer: str, fan_in: int, fan_out: int) -> nn.initializers.Initializer:
    """Uniform kernels: ``glorot`` (DreamerV2) or ``torch`` (PyTorch's default).

    The fans are arguments because some kernels are stored in parts.
    """
    limit = {"glorot": (6.0 / (fan_in + fan_out)) ** 0.5, "torch": fan_in**-0.5}[initializer]
    return _uniform(limit)


def bias_init(initializer: str, fan_in: int) -> nn.initializers.Initializer:
    """Zero biases for ``glorot``, uniform ones for ``torch``."""
    return _uniform({"glorot": 0.0, "torch": fan_in**-0.5}[initializer])


def _uniform(limit: float) -> nn.initializers.Initializer:
    def init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


@jax.custom_vjp
def elu(x: jax.Array) -> jax.Array:
    """``x`` where positive, else ``exp(x) - 1``.

    Cheaper on a CPU than `jax.nn.elu`, whose ``expm1`` has a series for small x, and whose gradient
    computes it again; here the gradient is ``y + 1`` from the output alone. The absolute error of
    ``exp(x) - 1`` is that of float32 near 1, 6e-8. Narrower numbers are computed in float32 too:
    ``exp(x)`` of bfloat16 has two digits.
    """
    wide = _wide(x)
    return jnp.where(wide > 0.0, wide, jnp.exp(jnp.minimum(wide, 0.0)) - 1.0).astype(x.dtype)


def _elu_fwd(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = elu(x)
    return y, y


def _elu_bwd(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (elu_gradient(y, dy),)


def elu_gradient(y: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient of the input of `elu` from that of its output ``y``; all of one shape."""
    slope = jnp.minimum(_wide(y) + 1.0, 1.0)
    return (dy * slope).astype(dy.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, result: jnp.dtype) -> jax.Array:
    """``x @ kernel``: ``[..., in], [in, out] -> [..., out]``, of type ``result``.

    Both inputs have one type. **Gradient:** to both. The transposed kernel is kept for that of
    ``x``, so that a loop over time transposes it once, before the first step. A CPU would otherwise
    do so in every step, which takes as long as the product.
    """
    chex.assert_type(kernel, x.dtype)
    return jnp.matmul(x, kernel, preferred_element_type=result)


def _product_fwd(
    x: CustomVJPPrimal, kernel: CustomVJPPrimal, result: jnp.dtype
) -> tuple[jax.Array, Pair]:
    # Nothing is kept or computed for an input whose gradient nobody wants.
    kept_x = x.value if kernel.perturbed else None
    transposed = kernel.value.T if x.perturbed else None
    return product(x.value, kernel.value, result), (kept_x, transposed)


def _product_bwd(result: jnp.dtype, residuals: Pair, dy: jax.Array) -> Pair:
    x, transposed = residuals
    dx = None if transposed is None else (dy @ transposed).astype(transposed.dtype)
    if x is None:
        return dx, None
    return dx, kernel_gradient(x, dy).astype(x.dtype)


product.defvjp(_product_fwd, _product_bwd, symbolic_zeros=True)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


elu.defvjp(_elu_fwd, _elu_bwd)


def for_each_row(bias: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A float32 bias ``[features]`` at every place of ``shape [..., features]``, in ``dtype``.

    It is cast after it is broadcast: its gradient is then summed over the places in float32. A sum
    of thousands of bfloat16 values in bfloat16 would lose most of them.
    """
    return jnp.broadcast_to(bias, shape).astype(dtype)


class Linear(nn.Module):
    """``x @ kernel + bias`` over the last axis, computed in ``dtype`` with float32 parameters.

    ``fan_in`` overrides the size of the input for initialisation, where the kernel is one part of
    a larger one. ``result`` is the type of the output if it is not ``dtype``: the last layer of a
    head has float32, the type that the products are summed in. Given a slot, the gradient of its
    weights goes there, see `networks.deferred`.
    """

    features: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32
    use_bias: bool = True
    fan_in: int | None = None
    result: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., in] -> [..., features]``."""
        size = x.shape[-1]
        fan_in = size if self.fan_in is None else self.fan_in
        init = kernel_init(self.initializer, fan_in, self.features)
        kernel = self.param("kernel", init, (size, self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        result = self.dtype if self.result is None else self.result
        if not self.use_bias:
            return kept(product(x, kernel, result))
        bias = self.param("bias", bias_init(self.initializer, fan_in), (self.features,))
        bias = for_each_row(bias, (*x.shape[:-1], self.features), result)
        if self.has_variable(deferred.COLLECTION, "slot"):
            weights = jax.lax.stop_gradient((kernel, bias))
            slot = self.get_variable(deferred.COLLECTION, "slot")
            return kept(deferred.affine(x, *weights, slot))
        return kept(product(x, kernel, result) + bias)


@jax.custom_vjp
def standardise(x: jax.Array) -> jax.Array:
    """``y = (x - mean) / sqrt(var + 1e-5)`` over the last axis.

    **Gradient:** ``dx = (dy - mean(dy) - y mean(y dy)) / sqrt(var + 1e-5)``. `jax.grad` of the
    formula keeps and computes more.
    """
    return _standardise_fwd(x)[0]


def _standardise_fwd(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-5)
    y = centred * scale
    return y, (y, scale)


def _standardise_bwd(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    y, scale = saved
    mean = jnp.mean(dy, axis=-1, keepdims=True)
    along = jnp.mean(dy * y, axis=-1, keepdims=True)
    return (scale * (dy - mean - y * along),)


standardise.defvjp(_standardise_fwd, _standardise_bwd)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis in float32, with learned scale and bias."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., features] -> [..., features]``."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = standardise(x.astype(jnp.float32))
        y = y * jnp.broadcast_to(scale, y.shape) + jnp.broadcast_to(bias, y.shape)
        return y.astype(x.dtype)
