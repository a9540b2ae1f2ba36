// A host that serves until it is killed. Prints the processes of its workers, then a line for each answer.

#include "check.h"
#include "nearcall.hpp"

#include <thread>

int main() {
    using namespace std::chrono_literals;
    nearcall::Builder builder("hosts:Steps");
    builder.method("run").python_path(models()).add_str("op").add_int("x").workers(2).start_deadline(30s);
    const nearcall::Engine engine = builder.start().value();
    for (const std::uint32_t pid : engine.worker_pids()) std::printf("worker %u\n", pid);
    nearcall::Task hang;
    // One worker hangs when the host is killed, the other one is in the middle of something.
    const nearcall::Ticket ticket = engine.submit(hang.add_str("hang").add_int(0)).value();
    nearcall::Task task;
    nearcall::Answer answer;
    for (std::int64_t x = 0;; x++) {
        engine.call_into(task.clear().add_str("echo").add_int(x), 30s, answer).value();
        CHECK(answer.get_int().value() == x);
        if (x % 100 == 0) {
            std::printf("answer %lld\n", static_cast<long long>(x));
            std::fflush(stdout);
        }
    }
}
