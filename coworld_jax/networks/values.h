// What is done to the values of blocks one by one: gradients of activations, errors, moves.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lanes.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

template <int rank>
using Array = ffi::Buffer<ffi::F32, rank>;
template <int rank>
using Result = ffi::ResultBuffer<ffi::F32, rank>;

// dz = activate'(z) dy, and its sum over images and pixels.
ffi::Error Deactivate(ffi::ThreadPool pool, Array<5> y, Array<5> dy, Result<5> dz, Result<1> dbias,
                      int64_t activation) {
  const int64_t G = y.dimensions()[0], F = y.dimensions()[3];
  const int64_t pixels = y.dimensions()[1] * y.dimensions()[2];
  const float *ys = y.typed_data(), *dys = dy.typed_data();
  float *out = dz->typed_data(), *total = dbias->typed_data();
  std::vector<float> partial(G * F);
  float* sums = partial.data();
  parallel(pool, G, [=](int64_t g) {
    thread_local Scratch scratch;
    float* lanes = scratch.floats(F * kImages);
    std::fill_n(lanes, F * kImages, 0.0f);
    for (int64_t i = g * pixels; i < (g + 1) * pixels; ++i)
      for (int64_t f = 0; f < F; ++f) {
        const int64_t at = (i * F + f) * kImages;
        const Lanes gradient = activation_gradient(load(ys + at), load(dys + at), activation);
        store(out + at, gradient);
        store(lanes + f * kImages, load(lanes + f * kImages) + gradient);
      }
    for (int64_t f = 0; f < F; ++f) {
      float sum = 0.0f;
      for (int n = 0; n < kImages; ++n) sum += lanes[f * kImages + n];
      sums[g * F + f] = sum;
    }
  });
  for (int64_t f = 0; f < F; ++f) {
    total[f] = 0.0f;
    for (int64_t g = 0; g < G; ++g) total[f] += sums[g * F + f];
  }
  return ffi::Error::Success();
}

// y -= x for a row of pixels [width, C, n]. The errors of each channel are added to sums[C, n], and
// all squares to squares[n].
inline void subtract_and_sum(float* y, const float* x, int64_t width, int64_t C, float* sums,
                             float* squares) {
  constexpr int kSums = 4;  // independent ones, so that no addition waits for the last
  for (int64_t c = 0; c < C; ++c) {
    Lanes sum[kSums] = {}, square[kSums] = {};
    const auto error = [&](int64_t j, int k) {
      const int64_t at = (j * C + c) * kImages;
      const Lanes value = load(y + at) - load(x + at);
      store(y + at, value);
      sum[k] += value;
      square[k] += value * value;
    };
    int64_t j = 0;
    for (; j + kSums <= width; j += kSums)
#pragma GCC unroll 4
      for (int k = 0; k < kSums; ++k) error(j + k, k);
    for (; j < width; ++j) error(j, 0);
    const auto add = [](float* to, const Lanes* from) {  // row by row: rounding errors stay small
      store(to, load(to) + ((from[0] + from[1]) + (from[2] + from[3])));
    };
    add(sums + c * kImages, sum);
    add(squares, square);
  }
}

// For each block y[i, n] = x[n, i], where i counts channels of pixels; or, to join, y[n, i] = x[i,
// n].
template <bool join>
ffi::Error Transpose(ffi::ThreadPool pool, Array<3> x, Result<3> y) {
  const int64_t size = x.dimensions()[join ? 1 : 2], whole = size / kImages * kImages;
  if (x.dimensions()[join ? 2 : 1] != kImages)
    return ffi::Error::InvalidArgument("a block has another number of images");
  const int64_t step_in = join ? kImages : size, step_out = join ? size : kImages;
  const float* from = x.typed_data();
  float* to = y->typed_data();
  parallel(pool, x.dimensions()[0], [=](int64_t g) {
    const float* in = from + g * size * kImages;
    float* out = to + g * size * kImages;
    for (int64_t i = 0; i < whole; i += kImages)
      transpose_square(in + i * (join ? kImages : 1), step_in, out + i * (join ? 1 : kImages),
                       step_out);
    for (int64_t i = whole; i < size; ++i)
      for (int64_t n = 0; n < kImages; ++n) {
        const int64_t inside = i * kImages + n, across = n * size + i;
        out[join ? across : inside] = in[join ? inside : across];
      }
  });
  return ffi::Error::Success();
}

}  // namespace
