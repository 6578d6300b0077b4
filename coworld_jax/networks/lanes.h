// One channel of one pixel of n images in a vector register, and what is done with registers.

#pragma once

#include <cstdint>
#include <utility>

// Images of a block, which is the lanes of a register, and registers of a core.
#if defined(__AVX512F__)
constexpr int kImages = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kImages = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kImages = 4, kRegisters = 32;
#else
constexpr int kImages = 4, kRegisters = 16;
#endif

typedef float Lanes __attribute__((vector_size(4 * kImages), aligned(4), may_alias));
typedef int32_t Words __attribute__((vector_size(4 * kImages), aligned(4), may_alias));

enum Activation : int64_t { kNone = 0, kElu = 1, kRelu = 2 };

inline Lanes load(const float* from) { return *(const Lanes*)from; }
inline void store(float* to, Lanes value) { *(Lanes*)to = value; }

// A value that several multiply-adds use: without a barrier, each of them reads it from memory.
inline Lanes in_register(Lanes value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__AVX__)
  asm("" : "+x"(value));
#endif
  return value;
}

// e^x for x <= 0 as 2^n 2^r, where |r| <= 1/2 and 2^r is a polynomial; n is added to its exponent.
// The absolute error is at most 1.3e-7, and ELU needs no more. Below -86 it is e^-86. Where x is
// positive or NaN, the result means nothing.
inline Lanes exponential(Lanes x) {
  const Lanes lowest = Lanes{} - 86.0f;
  x = x < lowest ? lowest : x;
  const Lanes shifted = x * 1.44269504f + 12582912.0f;  // n is in the low bits of 1.5 * 2^23 + n
  const Lanes r = x * 1.44269504f - (shifted - 12582912.0f);
  Lanes p = r * 1.3264727089e-3f + 9.6715128620e-3f;
  p = p * r + 5.5507337456e-2f;
  p = p * r + 2.4022242082e-1f;
  p = p * r + 6.9314697760e-1f;
  p = p * r + 1.0f;
  return (Lanes)((Words)p + ((Words)shifted << 23));
}

// NaN stays NaN.
inline Lanes activate(Lanes z, int64_t activation) {
  const Lanes zero = {};
  if (activation == kNone) return z;
  if (activation == kRelu) return z < zero ? zero : z;
  return z <= zero ? exponential(z) - 1.0f : z;
}

// The gradient of z from that of y = activate(z), where there is an activation.
inline Lanes activation_gradient(Lanes y, Lanes dy, int64_t activation) {
  const Lanes zero = {}, one = zero + 1.0f;
  if (activation == kRelu) return y > zero ? dy : zero;
  return dy * (y > zero ? one : y + 1.0f);
}

// Lane j of the result is lane Index::of(j) of a followed by b.
template <typename Index, int... j>
inline Lanes pick(Lanes a, Lanes b, std::integer_sequence<int, j...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Index::of(j)...);
#else
  return __builtin_shuffle(a, b, Words{Index::of(j)...});
#endif
}

template <typename Index>
inline Lanes pick(Lanes a, Lanes b) {
  return pick<Index>(a, b, std::make_integer_sequence<int, kImages>());
}

template <int first>
struct EverySecond {
  static constexpr int of(int j) { return 2 * j + first; }
};

// Neighbouring lanes of a and b added up: those of a come first.
inline Lanes add_pairs(Lanes a, Lanes b) {
  return pick<EverySecond<0>>(a, b) + pick<EverySecond<1>>(a, b);
}

// The sums over the lanes of N registers, one in each lane.
template <int N>
inline Lanes add_lanes(const Lanes* from) {
  if constexpr (N == 1) {
    return from[0];
  } else {
    Lanes half[N / 2];
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) half[i] = add_pairs(from[2 * i], from[2 * i + 1]);
    return add_lanes<N / 2>(half);
  }
}

// In each run of 2 s lanes: the first s of a, then the first s of b; or the last s of both.
template <int s>
struct First {
  static constexpr int of(int j) { return j & s ? kImages + j - s : j; }
};
template <int s>
struct Last {
  static constexpr int of(int j) { return j & s ? kImages + j : j + s; }
};

// Exchanges rows and columns of kImages registers. In each square of 2 s rows and columns, the
// upper right quarter and the lower left one change places; then the same with half of s.
template <int s = kImages / 2>
inline void transpose(Lanes* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kImages; ++i) {
    if (i & s) continue;
    const Lanes first = pick<First<s>>(rows[i], rows[i + s]);
    rows[i + s] = pick<Last<s>>(rows[i], rows[i + s]);
    rows[i] = first;
  }
  if constexpr (s > 1) transpose<s / 2>(rows);
}

// to[j, i] = from[i, j] for kImages rows and columns; a step is the floats from one row to the
// next.
inline void transpose_square(const float* from, int64_t from_step, float* to, int64_t to_step) {
  Lanes rows[kImages];
#pragma GCC unroll 16
  for (int i = 0; i < kImages; ++i) rows[i] = load(from + i * from_step);
  transpose(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kImages; ++i) store(to + i * to_step, rows[i]);
}
