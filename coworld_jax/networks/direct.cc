// Convolutions without padding, computed directly: no patch is copied. direct.py has the equations.
//
// An array [G, height, width, C, n] holds G blocks of n images. One channel of one pixel of n
// images fills one vector register (`Lanes`), so that a multiply-add serves n images, and what lies
// under one row of a kernel is one run of memory. The sums that belong to one tile of pixels and
// channels stay in registers. They are made in the same order whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lanes.h"
#include "products.h"
#include "threads.h"
#include "values.h"
#include "xla/ffi/api/ffi.h"

namespace {

constexpr int kMostTaps = 8;               // The largest kernel has so many rows.
constexpr int64_t kKernelBytes = 1 << 18;  // A kernel of this size stays in the L2 cache.
constexpr int64_t kPixels = 64;  // The inputs of one tile at so many pixels stay in the L1 cache.

// body(first, count) for tiles of channels.
template <typename Body>
void for_tiles(int64_t channels, Body body) {
  for (int64_t first = 0, count; first < channels; first += count) {
    const int64_t left = channels - first;
    count = left >= 8 ? 8 : left >= 6 ? 6 : left >= 4 ? 4 : left;
    body(first, count);
  }
}

// A row of output pixels, some channels of it, and what lies under the kernel at its first pixel.
struct Row {
  const float* under[kMostTaps];  // one run of memory for each row of the kernel
  int64_t taps;                   // rows of the kernel
  int64_t run;                    // floats of a run, over n: columns of the kernel times channels
  int64_t step;                   // floats from one pixel to the next
  const float* kernel;            // [taps, run, F]
  const float* bias;              // [F]
  int64_t activation;
  float* out;
  int64_t out_step;
};

// F channels of P neighbouring pixels.
template <int P, int F>
inline void compute_tile(const Row& row) {
  Lanes sums[P][F];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int f = 0; f < F; ++f) sums[p][f] = Lanes{} + row.bias[f];
  const float* kernel = row.kernel;
  for (int64_t r = 0; r < row.taps; ++r) {
    const float* in = row.under[r];
    for (int64_t t = 0; t < row.run; ++t, in += kImages, kernel += F) {
      Lanes x[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) x[p] = in_register(load(in + p * row.step));
#pragma GCC unroll 8
      for (int f = 0; f < F; ++f) {
        const Lanes weight = in_register(Lanes{} + kernel[f]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sums[p][f] += x[p] * weight;
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
    for (int f = 0; f < F; ++f)
      store(row.out + p * row.out_step + f * kImages, activate(sums[p][f], row.activation));
}

template <int P, int F>
void compute_row(Row row, int64_t pixels) {
  for (; pixels >= P; pixels -= P) {
    compute_tile<P, F>(row);
    for (int64_t r = 0; r < row.taps; ++r) row.under[r] += P * row.step;
    row.out += P * row.out_step;
  }
  if constexpr (P > 1) compute_row<P - 1, F>(row, pixels);
}

// As many pixels at once as there are registers for: P F sums, P inputs and a weight.
template <int F>
void compute_wide(const Row& row, int64_t pixels) {
  compute_row<std::min(8, (kRegisters - 1) / (F + 1)), F>(row, pixels);
}

void compute(const Row& row, int64_t channels, int64_t pixels) {
  switch (channels) {
    case 8:
      return compute_wide<8>(row, pixels);
    case 6:
      return compute_wide<6>(row, pixels);
    case 4:
      return compute_wide<4>(row, pixels);
    case 3:
      return compute_wide<3>(row, pixels);
    case 2:
      return compute_wide<2>(row, pixels);
    default:
      return compute_wide<1>(row, pixels);
  }
}

// y[i, j, f] = activate(sum_{p, q, c} x[s i + p, s j + q, c] kernel[p, q, c, f] + bias[f])
ffi::Error Gather(ffi::ThreadPool pool, Array<5> x, Array<4> kernel, Array<1> bias, Result<5> y,
                  int64_t s, int64_t activation) {
  const int64_t G = x.dimensions()[0], H = x.dimensions()[1], W = x.dimensions()[2];
  const int64_t k = kernel.dimensions()[0], C = kernel.dimensions()[2], F = kernel.dimensions()[3];
  const int64_t h = y->dimensions()[1], w = y->dimensions()[2], inputs = k * k * C;
  std::vector<float> packed(inputs * F);  // [tile, k, k, C, channels of the tile]
  const float* weights = kernel.typed_data();
  for_tiles(F, [&](int64_t f, int64_t count) {
    float* to = &packed[f * inputs];
    for (int64_t t = 0; t < inputs; ++t, to += count) std::copy_n(weights + t * F + f, count, to);
  });
  const float *in = x.typed_data(), *biases = bias.typed_data(), *tiles = packed.data();
  float* out = y->typed_data();
  // A small kernel stays in the cache while the rows pass; else the image does.
  const int64_t at_once = 4 * inputs * F <= kKernelBytes ? 1 : h;
  parallel(pool, G, [=](int64_t g) {
    for (int64_t first = 0; first < h; first += at_once)
      for_tiles(F, [&](int64_t f, int64_t count) {
        for (int64_t i = first; i < first + at_once; ++i) {
          Row row{{},
                  k,
                  k * C,
                  s * C * kImages,
                  tiles + f * inputs,
                  biases + f,
                  activation,
                  out + ((g * h + i) * w * F + f) * kImages,
                  F * kImages};
          for (int64_t p = 0; p < k; ++p) row.under[p] = in + (g * H + s * i + p) * W * C * kImages;
          compute(row, count, w);
        }
      });
  });
  return ffi::Error::Success();
}

// y[u, v, c] = activate(sum_{s i + p = u, s j + q = v, d} x[i, j, d] kernel[p, q, c, d] + bias[c])
//
// Pixels of one residue (u mod s, v mod s) have the same taps. These are packed in reverse order,
// since the last tap belongs to the first input pixel.
//
// finish(g, first, rows) is called once these rows of block g are complete.
template <typename Finish>
void spread_pixels(ffi::ThreadPool& pool, Array<5> x, Array<4> kernel, Array<1> bias, Result<5> y,
                   int64_t s, int64_t activation, Finish finish) {
  const int64_t G = x.dimensions()[0], h = x.dimensions()[1], w = x.dimensions()[2];
  const int64_t k = kernel.dimensions()[0], C = kernel.dimensions()[2], D = kernel.dimensions()[3];
  const int64_t H = y->dimensions()[1], W = y->dimensions()[2];
  auto taps_of = [=](int64_t residue) { return (k - residue + s - 1) / s; };
  // [residues, tile, taps, taps, D, channels of the tile], and where each residue starts.
  std::vector<float> packed(k * k * C * D);
  std::vector<int64_t> starts(s * s);
  const float* weights = kernel.typed_data();
  int64_t end = 0;
  for (int64_t residue = 0; residue < s * s; ++residue) {
    const int64_t a = residue / s, b = residue % s;
    starts[residue] = end;
    for_tiles(C, [&](int64_t c, int64_t count) {
      for (int64_t p = taps_of(a) - 1; p >= 0; --p)
        for (int64_t q = taps_of(b) - 1; q >= 0; --q) {
          const float* from = weights + (((s * p + a) * k + s * q + b) * C + c) * D;
          for (int64_t d = 0; d < D; ++d)
            for (int64_t e = 0; e < count; ++e) packed[end++] = from[e * D + d];
        }
    });
  }
  // A row is copied between zeros: so many pixels on its left, and up to the last tap on its right.
  const int64_t zeros = (k - 1) / s;
  const int64_t row_size = std::max(w + 2 * zeros, (W + s - 1) / s + zeros) * D * kImages;
  const float *in = x.typed_data(), *biases = bias.typed_data(), *tiles = packed.data();
  const int64_t* start = starts.data();
  float* out = y->typed_data();
  const int64_t at_once = 4 * k * k * C * D <= kKernelBytes ? s : H;  // as in Gather
  parallel(pool, G, [=](int64_t g) {
    thread_local Scratch scratch;
    float* padded = scratch.floats(h * row_size);
    for (int64_t first = 0, copied = 0; first < H; first += at_once) {
      const int64_t rows = std::min(H - first, at_once);
      for (; copied < std::min(h, (first + rows - 1) / s + 1); ++copied) {
        float* row = padded + copied * row_size;
        std::fill_n(row, row_size, 0.0f);
        std::copy_n(in + (g * h + copied) * w * D * kImages, w * D * kImages,
                    row + zeros * D * kImages);
      }
      for_tiles(C, [&](int64_t c, int64_t count) {
        for (int64_t pixels = 0; pixels < rows * s; ++pixels) {  // a row of output, one residue
          const int64_t u = first + pixels / s, a = u % s, b = pixels % s;
          const int64_t down = taps_of(a), across = taps_of(b), run = across * D;
          const int64_t top = u / s - (down - 1);
          const int64_t from = std::max<int64_t>(0, top), to = std::min(h, top + down);
          const float* tile = tiles + start[a * s + b] + (c * down + count * (from - top)) * run;
          Row row{{},
                  std::max<int64_t>(0, to - from),
                  run,
                  D * kImages,
                  tile,
                  biases + c,
                  activation,
                  out + (((g * H + u) * W + b) * C + c) * kImages,
                  s * C * kImages};
          for (int64_t i = from; i < to; ++i)
            row.under[i - from] = padded + i * row_size + (zeros - (across - 1)) * D * kImages;
          compute(row, count, (W - b + s - 1) / s);
        }
      });
      finish(g, first, rows);
    }
  });
}

ffi::Error Spread(ffi::ThreadPool pool, Array<5> x, Array<4> kernel, Array<1> bias, Result<5> y,
                  int64_t s, int64_t activation) {
  spread_pixels(pool, x, kernel, bias, y, s, activation, [](int64_t, int64_t, int64_t) {});
  return ffi::Error::Success();
}

// errors = y - image, where y is what Spread makes without an activation; for each image the sums
// of the errors of each channel, and the sum of all squares.
ffi::Error SpreadErrors(ffi::ThreadPool pool, Array<5> x, Array<4> kernel, Array<1> bias,
                        Array<5> image, Result<5> errors, Result<3> sums, Result<2> squares,
                        int64_t s) {
  const int64_t H = errors->dimensions()[1], W = errors->dimensions()[2];
  const int64_t C = errors->dimensions()[3], row = W * C * kImages;
  const float* images = image.typed_data();
  float *out = errors->typed_data(), *sum = sums->typed_data(), *square = squares->typed_data();
  std::fill_n(sum, sums->element_count(), 0.0f);
  std::fill_n(square, squares->element_count(), 0.0f);
  spread_pixels(pool, x, kernel, bias, errors, s, kNone, [=](int64_t g, int64_t u, int64_t rows) {
    for (const int64_t end = u + rows; u < end; ++u) {
      float* y = out + (g * H + u) * row;
      subtract_and_sum(y, images + (g * H + u) * row, W, C, sum + g * C * kImages,
                       square + g * kImages);
    }
  });
  return ffi::Error::Success();
}

// Rows of pixels of two arrays, and floats from one pixel of them to the next.
struct Pixels {
  const float *x[kPixels], *z[kPixels];
  int64_t rows, width, x_step, z_step;
};

// total[t, f] = sum over pixels and images of x[t] z[f], for T and F neighbouring channels.
template <int T, int F>
inline void compute_products(const Pixels& pixels, float* total) {
  Lanes sums[T][F] = {};
  for (int64_t r = 0; r < pixels.rows; ++r) {
    const float *x = pixels.x[r], *z = pixels.z[r];
    for (int64_t j = 0; j < pixels.width; ++j, x += pixels.x_step, z += pixels.z_step) {
      Lanes right[F];
#pragma GCC unroll 8
      for (int f = 0; f < F; ++f) right[f] = in_register(load(z + f * kImages));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Lanes left = in_register(load(x + t * kImages));
#pragma GCC unroll 8
        for (int f = 0; f < F; ++f) sums[t][f] += left * right[f];
      }
    }
  }
  constexpr int padded = (T * F + kImages - 1) / kImages * kImages;
  Lanes all[padded] = {};
#pragma GCC unroll 32
  for (int i = 0; i < T * F; ++i) all[i] = sums[i / F][i % F];
#pragma GCC unroll 8
  for (int i = 0; i < padded; i += kImages) store(total + i, add_lanes<kImages>(all + i));
}

// dkernel[p, q, c, f] = sum_{images, i, j} x[s i + p, s j + q, c] z[i, j, f]
ffi::Error Correlate(ffi::ThreadPool pool, Array<5> x, Array<5> z, Result<4> dkernel, int64_t s) {
  constexpr int64_t kTile = 4;                                // channels of z, and of x:
  constexpr int64_t kRun = (kRegisters - kTile - 1) / kTile;  // sums, a tile of z and one of x
  const int64_t H = x.dimensions()[1], W = x.dimensions()[2], C = x.dimensions()[3];
  const int64_t h = z.dimensions()[1], w = z.dimensions()[2], F = z.dimensions()[3];
  const int64_t k = dkernel->dimensions()[0], run = k * C, rows = z.dimensions()[0] * h;
  const int64_t at_once = std::max<int64_t>(1, kPixels / std::max<int64_t>(1, w));
  const float *left = x.typed_data(), *right = z.typed_data();
  float* out = dkernel->typed_data();
  std::fill_n(out, k * run * F, 0.0f);
  const bool copy = run < kRun || F > 2 * kTile;  // where more than two tiles read it
  // Tasks share the rows of the kernel and, where these do not divide evenly, the channels of z.
  const int64_t groups = std::min<int64_t>(k, std::max<int64_t>(1, pool.num_threads()));
  const int64_t parts = k % groups == 0 ? 1 : 2;
  const int64_t part_size = (F / parts + kTile - 1) / kTile * kTile;
  parallel(pool, groups * parts, [=](int64_t task) {
    const int64_t group = task / parts, begin = task % parts * part_size;
    const int64_t end = task % parts == parts - 1 ? F : std::min(F, begin + part_size);
    thread_local Scratch scratch;
    float* copied = scratch.floats(at_once * w * kRun * kImages);
    for (int64_t first = 0; first < rows; first += at_once)
      for (int64_t p = k * group / groups; p < k * (group + 1) / groups; ++p)
        for (int64_t t = 0; t < run; t += kRun) {
          const int64_t count = std::min(kRun, run - t), skipped = copy ? 0 : kRun - count;
          Pixels pixels{{},
                        {},
                        std::min(at_once, rows - first),
                        w,
                        copy ? kRun * kImages : s * C * kImages,
                        F * kImages};
          for (int64_t r = 0; r < pixels.rows; ++r) {
            const int64_t g = (first + r) / h, i = (first + r) % h;
            const float* from = left + (((g * H + s * i + p) * W) * C + t - skipped) * kImages;
            pixels.x[r] = copy ? copied + r * w * kRun * kImages : from;
            if (!copy) continue;
            float* to = copied + r * w * kRun * kImages;
            for (int64_t j = 0; j < w; ++j, from += s * C * kImages, to += kRun * kImages)
              std::copy_n(from, count * kImages, to);
          }
          for (int64_t f = begin, tile; f < end; f += tile) {
            tile = end - f >= kTile ? kTile : 1;
            for (int64_t r = 0; r < pixels.rows; ++r)
              pixels.z[r] = right + ((first + r) * w * F + f) * kImages;
            alignas(4 * kImages) float total[2 * kRegisters];
            if (tile == kTile)
              compute_products<kRun, kTile>(pixels, total);
            else
              compute_products<kRun, 1>(pixels, total);
            for (int64_t d = 0; d < count; ++d)
              for (int64_t e = 0; e < tile; ++e)
                out[(p * run + t + d) * F + f + e] += total[(skipped + d) * tile + e];
          }
        }
  });
  return ffi::Error::Success();
}

// How Python passes arguments: the pool first, then arrays, results and attributes.
auto Bind() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>(); }

auto BindLayer() {
  return Bind()
      .Arg<Array<5>>()
      .Arg<Array<4>>()
      .Arg<Array<1>>()
      .Ret<Array<5>>()
      .Attr<int64_t>("stride")
      .Attr<int64_t>("activation");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gather, Gather, BindLayer());
XLA_FFI_DEFINE_HANDLER_SYMBOL(spread, Spread, BindLayer());
XLA_FFI_DEFINE_HANDLER_SYMBOL(spread_errors, SpreadErrors,
                              Bind()
                                  .Arg<Array<5>>()
                                  .Arg<Array<4>>()
                                  .Arg<Array<1>>()
                                  .Arg<Array<5>>()
                                  .Ret<Array<5>>()
                                  .Ret<Array<3>>()
                                  .Ret<Array<2>>()
                                  .Attr<int64_t>("stride"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    correlate, Correlate,
    Bind().Arg<Array<5>>().Arg<Array<5>>().Ret<Array<4>>().Attr<int64_t>("stride"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    deactivate, Deactivate,
    Bind().Arg<Array<5>>().Arg<Array<5>>().Ret<Array<5>>().Ret<Array<1>>().Attr<int64_t>(
        "activation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_rows, MultiplyRows,
                              Bind().Arg<Array<2>>().Arg<Array<2>>().Ret<Array<2>>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(split, Transpose<false>, Bind().Arg<Array<3>>().Ret<Array<3>>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(join, Transpose<true>, Bind().Arg<Array<3>>().Ret<Array<3>>());

extern "C" int images_of_block() { return kImages; }
