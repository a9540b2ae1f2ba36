// A call with a task and an answer that are used again allocates nothing, nor does one through the seed's interface:
// counted in front of the C library's own functions, which the engine's library calls too. $PYTHONPATH has the models.

#include "cc4py.h"
#include "check.h"
#include "nearcall.hpp"

#include <cerrno>
#include <thread>

namespace {
thread_local std::size_t allocations = 0;
}

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) noexcept {
    allocations++;
    return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
    allocations++;
    return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) noexcept {
    allocations++;
    return __libc_realloc(old, size);
}
int posix_memalign(void** place, std::size_t alignment, std::size_t size) noexcept {
    allocations++;
    *place = __libc_memalign(alignment, size);
    return *place == nullptr ? ENOMEM : 0;
}
}

namespace {

using namespace std::chrono_literals;

template <class Call>
std::size_t allocations_of(Call call) {
    for (int round = 0; round < 200; round++) call(round);
    const std::size_t before = allocations;
    for (int round = 0; round < 1000; round++) call(round);
    return allocations - before;
}

void by_the_modern_header() {
    nearcall::Builder builder("hosts:Seed");
    builder.method("run_big_model").add_floats("float_features").add_strs("str_features").add_int("int_feature");
    const nearcall::Engine engine = builder.workers(1).start().value();
    const std::vector<double> floats{1.5, 2.5};
    const std::vector<std::string> strs{"ab", "a text that is longer than what a string holds by itself"};
    nearcall::Task task;
    nearcall::Answer answer;
    const std::size_t made = allocations_of([&](int round) {
        task.clear().add_floats(floats).add_strs(strs).add_int(round);
        CHECK(engine.call_into(task, 30s, answer).has_value());
        CHECK(answer.get_int(0).value() == 62 + round && answer.get_str(1).value().empty());
    });
    if (made != 0) std::fprintf(stderr, "%zu allocations\n", made);
    CHECK(made == 0);
}

void by_the_seeds_interface() {
    setenv("NEARCALL_MODEL", "hosts:Seed.run_big_model", 1);
    cc4py::Engine engine;
    engine.initialize("{}", {"x", "y"}, {"s"});
    const std::vector<double> floats{1.5, 2.5};
    const std::vector<std::string> strs{"ab"};
    const std::size_t made = allocations_of([&](int round) {
        const cc4py::TaskReceipt receipt = engine.submit(floats, strs, round);
        CHECK(receipt.flag == 0);
        for (;;) {
            // "Not finished" is a text, of those that were not in a hurry.
            const std::size_t before = allocations;
            const cc4py::TaskResult result = engine.retrieve(receipt.key);
            if (result.flag != 1) {
                CHECK(result.flag == 0 && result.value == 6 + round);
                break;
            }
            allocations = before;
            std::this_thread::yield();
        }
    });
    if (made != 0) std::fprintf(stderr, "%zu allocations\n", made);
    CHECK(made == 0);
}

}  // namespace

int main() {
    // The counting itself works.
    const std::size_t before = allocations;
    delete new int(7);
    std::free(std::malloc(7));
    CHECK(allocations > before);
    by_the_modern_header();
    by_the_seeds_interface();
    return 0;
}
