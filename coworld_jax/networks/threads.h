// Work that the threads of XLA's pool share, and memory that each of them keeps.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "lanes.h"
#include "xla/ffi/api/ffi.h"

// Shares that are scheduled and not begun. A busy pool keeps them in its queues even when their
// calls have ended. The limit below leaves room in the queues for XLA's own work.
static std::atomic<int64_t> waiting{0};

// work(0) ... work(count - 1). The calling thread takes its share, so that a busy pool cannot
// block.
template <typename Work>
void parallel(xla::ffi::ThreadPool& pool, int64_t count, Work work) {
  struct State {
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable finished;
    int64_t done = 0;
  };
  auto state = std::make_shared<State>();
  auto take = [state, count, work] {
    for (int64_t i; (i = state->next++) < count;) {
      work(i);
      std::lock_guard<std::mutex> lock(state->mutex);
      if (++state->done == count) state->finished.notify_all();
    }
  };
  const int64_t threads = std::min<int64_t>(pool.num_threads(), count);
  for (int64_t other = 1; other < threads && waiting < 4 * pool.num_threads(); ++other) {
    ++waiting;
    pool.Schedule([take] {
      --waiting;
      take();
    });
  }
  take();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done == count; });
}

// Memory of a thread, aligned as registers are. It is kept from call to call.
class Scratch {
 public:
  float* floats(int64_t count) {
    const size_t registers = (count + kImages - 1) / kImages;
    if (memory_.size() < registers) memory_.resize(registers);
    return memory_[0].lanes;
  }

 private:
  struct alignas(4 * kImages) Register {
    float lanes[kImages];
  };
  std::vector<Register> memory_;
};
