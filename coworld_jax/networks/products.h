// The gradient of a small dense layer's kernel: a product of two arrays over their rows.

#pragma once

#include <algorithm>
#include <cstdint>

#include "lanes.h"
#include "threads.h"
#include "values.h"
#include "xla/ffi/api/ffi.h"

namespace {

constexpr int kTileRows = 6;                // of a tile of results
constexpr int kTileWidth = kRegisters / 8;  // registers of one of these rows
constexpr int64_t kRows = 512;  // of x and z at once, for a cache; sums of sums are also more exact

// total[i, j] += sum over rows of x[row, i] z[row, j], for T values of i and W registers of j.
template <int T, int W>
inline void multiply_tile(const float* x, int64_t x_step, const float* z, int64_t z_step,
                          int64_t rows, float* total, int64_t total_step) {
  Lanes sums[T][W] = {};
  for (int64_t row = 0; row < rows; ++row, x += x_step, z += z_step) {
    Lanes right[W];
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) right[j] = in_register(load(z + j * kImages));
#pragma GCC unroll 8
    for (int i = 0; i < T; ++i) {
      const Lanes value = in_register(Lanes{} + x[i]);
#pragma GCC unroll 4
      for (int j = 0; j < W; ++j) sums[i][j] += value * right[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < T; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < W; ++j) {
      float* to = total + i * total_step + j * kImages;
      store(to, load(to) + sums[i][j]);
    }
}

// The same for I values of i.
template <int T, int W>
void multiply_tiles(const float* x, int64_t x_step, const float* z, int64_t z_step, int64_t rows,
                    float* total, int64_t total_step, int64_t I) {
  for (; I >= T; I -= T, x += T, total += T * total_step)
    multiply_tile<T, W>(x, x_step, z, z_step, rows, total, total_step);
  if constexpr (T > 1) multiply_tiles<T - 1, W>(x, x_step, z, z_step, rows, total, total_step, I);
}

// The same for I values of i and the last J columns, which are padded with zeros.
template <int W>
void multiply_last(const float* x, int64_t I, const float* z, int64_t z_step, int64_t J,
                   int64_t rows, float* total, int64_t total_step) {
  constexpr int64_t width = W * kImages;
  if (W > 1 && J <= width / 2)
    return multiply_last<(W + 1) / 2>(x, I, z, z_step, J, rows, total, total_step);
  thread_local Scratch scratch;
  float* padded = scratch.floats((rows + I) * width);
  float* sums = padded + rows * width;
  std::fill_n(padded, (rows + I) * width, 0.0f);
  for (int64_t row = 0; row < rows; ++row) std::copy_n(z + row * z_step, J, padded + row * width);
  multiply_tiles<kTileRows, W>(x, I, padded, width, rows, sums, width, I);
  for (int64_t i = 0; i < I; ++i)
    for (int64_t j = 0; j < J; ++j) total[i * total_step + j] += sums[i * width + j];
}

// y[i, j] = sum over rows of x[row, i] z[row, j]
ffi::Error MultiplyRows(ffi::ThreadPool pool, Array<2> x, Array<2> z, Result<2> y) {
  constexpr int64_t width = kTileWidth * kImages;
  const int64_t rows = x.dimensions()[0], I = x.dimensions()[1], J = z.dimensions()[1];
  const float *xs = x.typed_data(), *zs = z.typed_data();
  float* out = y->typed_data();
  std::fill_n(out, I * J, 0.0f);
  parallel(pool, (J + width - 1) / width, [=](int64_t tile) {
    const int64_t j = tile * width;
    for (int64_t row = 0; row < rows; row += kRows) {
      const float *from_x = xs + row * I, *from_z = zs + row * J + j;
      const int64_t count = std::min(kRows, rows - row);
      if (j + width <= J)
        multiply_tiles<kTileRows, kTileWidth>(from_x, I, from_z, J, count, out + j, J, I);
      else
        multiply_last<kTileWidth>(from_x, I, from_z, J, J - j, count, out + j, J);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
