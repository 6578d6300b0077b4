// What is done to the values of blocks one by one: gradients of activations, squared errors, moves.

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

// dbias is the sum of dz over images and pixels. dz(at) gives one channel of one pixel, and `like`
// has the shape of dz.
template <typename Gradient>
void add_pixels(ffi::ThreadPool& pool, Array<5> like, float* dbias, Gradient dz) {
  const int64_t G = like.dimensions()[0], F = like.dimensions()[3];
  const int64_t pixels = like.dimensions()[1] * like.dimensions()[2];
  std::vector<float> partial(G * F);
  float* sums = partial.data();
  parallel(pool, G, [=](int64_t g) {
    thread_local Scratch scratch;
    float* lanes = scratch.floats(F * kImages);
    std::fill_n(lanes, F * kImages, 0.0f);
    for (int64_t i = g * pixels; i < (g + 1) * pixels; ++i)
      for (int64_t f = 0; f < F; ++f)
        store(lanes + f * kImages, load(lanes + f * kImages) + dz((i * F + f) * kImages));
    for (int64_t f = 0; f < F; ++f) {
      float sum = 0.0f;
      for (int n = 0; n < kImages; ++n) sum += lanes[f * kImages + n];
      sums[g * F + f] = sum;
    }
  });
  for (int64_t f = 0; f < F; ++f) {
    dbias[f] = 0.0f;
    for (int64_t g = 0; g < G; ++g) dbias[f] += sums[g * F + f];
  }
}

// dz = activate'(z) dy, and its sum over images and pixels.
ffi::Error Deactivate(ffi::ThreadPool pool, Array<5> y, Array<5> dy, Result<5> dz, Result<1> dbias,
                      int64_t activation) {
  const float *ys = y.typed_data(), *dys = dy.typed_data();
  float* out = dz->typed_data();
  add_pixels(pool, y, dbias->typed_data(), [=](int64_t at) {
    const Lanes gradient = activation_gradient(load(ys + at), load(dys + at), activation);
    store(out + at, gradient);
    return gradient;
  });
  return ffi::Error::Success();
}

// The same without an activation, where dz is dy.
ffi::Error AddUp(ffi::ThreadPool pool, Array<5> dz, Result<1> dbias) {
  const float* from = dz.typed_data();
  add_pixels(pool, dz, dbias->typed_data(), [=](int64_t at) { return load(from + at); });
  return ffi::Error::Success();
}

// squares[g, n] is the sum of (y - x)^2 over pixels and channels.
ffi::Error Compare(ffi::ThreadPool pool, Array<5> y, Array<5> x, Result<2> squares) {
  const int64_t G = y.dimensions()[0], rows = y.dimensions()[1];
  const int64_t row = y.dimensions()[2] * y.dimensions()[3] * kImages;
  const float *ys = y.typed_data(), *xs = x.typed_data();
  float* out = squares->typed_data();
  parallel(pool, G, [=](int64_t g) {
    constexpr int kSums = 4;  // independent ones, so that no addition waits for the last
    Lanes total = {};
    for (int64_t first = g * rows * row; first < (g + 1) * rows * row; first += row) {
      Lanes sums[kSums] = {};
      int64_t i = 0;
      const auto add = [&](int k) {
        const Lanes error = load(ys + first + i) - load(xs + first + i);
        sums[k] += error * error;
        i += kImages;
      };
      while (i + kSums * kImages <= row)
#pragma GCC unroll 4
        for (int k = 0; k < kSums; ++k) add(k);
      while (i < row) add(0);
      total += (sums[0] + sums[1]) + (sums[2] + sums[3]);  // rounding errors stay small
    }
    store(out + g * kImages, total);
  });
  return ffi::Error::Success();
}

// dy = 2 (y - x) dsquares[g, n].
ffi::Error CompareGradient(ffi::ThreadPool pool, Array<5> y, Array<5> x, Array<2> dsquares,
                           Result<5> dy) {
  const int64_t G = y.dimensions()[0], size = y.element_count() / G;
  const float *ys = y.typed_data(), *xs = x.typed_data(), *scales = dsquares.typed_data();
  float* out = dy->typed_data();
  parallel(pool, G, [=](int64_t g) {
    const Lanes scale = 2.0f * load(scales + g * kImages);
    for (int64_t i = g * size; i < (g + 1) * size; i += kImages)
      store(out + i, scale * (load(ys + i) - load(xs + i)));
  });
  return ffi::Error::Success();
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
