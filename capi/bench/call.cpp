// What a call costs from C++, beside the same call from Rust: one process, one engine, turns about. `scripts/bench-c`
// builds it with a library that has the Rust half (capi/src/bench.rs).
//
//     call MODELS WORKLOAD CALLS ROUNDS
//
// prints a JSON object. WORKLOAD is noop (a number goes in and comes out) or big_model (the seed's, without its sleep).

#include <nearcall.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" std::uint64_t nearcall_bench_calls(
    const nearcall_engine* engine, bool with_arguments, std::uint64_t calls, std::int64_t expected);

namespace {

using Clock = std::chrono::steady_clock;

// What was measured of a language.
struct Side {
    std::vector<double> ns_per_call;
};

struct Workload {
    const nearcall::Engine& engine;
    bool with_arguments;
    std::int64_t expected;
    std::uint64_t calls;

    // The nanoseconds that all calls took; 0 if an answer was wrong.
    std::uint64_t rust() const {
        return nearcall_bench_calls(engine.handle(), with_arguments, calls, expected);
    }

    // As Rust's half: task and answer are made once, the arguments are given for each call.
    std::uint64_t cpp() const {
        const std::vector<double> floats{1.1, 11.2, 0.3};
        const std::vector<std::string> strs{"abc", "cdavfdv"};
        nearcall::Task task;
        nearcall::Answer answer;
        const Clock::time_point start = Clock::now();
        for (std::uint64_t call = 0; call < calls; call++) {
            task.clear();
            if (with_arguments) task.add_floats(floats).add_strs(strs);
            task.add_int(27);
            if (!engine.call_into(task, std::chrono::seconds(10), answer)) return 0;
            const auto value = answer.get_int(0);
            if (!value || *value != expected) return 0;
        }
        const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
        return static_cast<std::uint64_t>(took.count());
    }
};

// The number that so many percent are below.
double percentile(std::vector<double> numbers, std::size_t percent) {
    std::sort(numbers.begin(), numbers.end());
    return numbers[(numbers.size() - 1) * percent / 100];
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) {
        std::fprintf(stderr, "call MODELS noop|big_model CALLS ROUNDS\n");
        return 2;
    }
    const bool with_arguments = std::string(argv[2]) == "big_model";
    nearcall::Builder builder(with_arguments ? "big_model:Engine" : "bench_model:Model");
    builder.python_path(argv[1]).workers(1);
    if (with_arguments) {
        builder.method("run_big_model").add_floats("float_features", nearcall::Length::exactly(3));
        builder.add_strs("str_features", nearcall::Length::exactly(2)).add_int("int_feature");
    } else {
        builder.method("noop").add_int("number");
    }
    const nearcall::Result<nearcall::Engine> engine = builder.start();
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.error().message().c_str());
        return 1;
    }
    const Workload workload{
        *engine, with_arguments, with_arguments ? 49 : 27, std::strtoull(argv[3], nullptr, 10)};
    const int rounds = std::atoi(argv[4]);
    if (workload.calls == 0 || rounds < 1) return 2;

    Side rust, cpp;
    std::vector<double> over;
    // The first round is for caches and the worker's own warming up.
    for (int round = -1; round < rounds; round++) {
        // Each side goes first in every other round.
        const bool rust_first = round % 2 == 0;
        std::uint64_t took[2];
        took[0] = rust_first ? workload.rust() : workload.cpp();
        took[1] = rust_first ? workload.cpp() : workload.rust();
        if (took[0] == 0 || took[1] == 0) {
            std::fprintf(stderr, "a call went wrong\n");
            return 1;
        }
        if (round < 0) continue;
        const auto per_call = [&workload](std::uint64_t ns) {
            return static_cast<double>(ns) / static_cast<double>(workload.calls);
        };
        rust.ns_per_call.push_back(per_call(took[rust_first ? 0 : 1]));
        cpp.ns_per_call.push_back(per_call(took[rust_first ? 1 : 0]));
        over.push_back(cpp.ns_per_call.back() - rust.ns_per_call.back());
    }

    std::printf(
        "{\"workload\": \"%s\", \"calls\": %llu, \"rounds\": %d, \"rust_ns\": %.1f, \"cpp_ns\": %.1f, "
        "\"over_ns\": %.1f, \"over_ns_quartiles\": [%.1f, %.1f]}\n",
        argv[2], static_cast<unsigned long long>(workload.calls), rounds,
        percentile(rust.ns_per_call, 50), percentile(cpp.ns_per_call, 50), percentile(over, 50),
        percentile(over, 25), percentile(over, 75));
    return 0;
}
