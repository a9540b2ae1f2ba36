// cc4py.h beyond what the seed's own program does: many threads with no lock, and whatever can go wrong.
// $PYTHONPATH has the models.

#include "cc4py.h"
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace {

cc4py::TaskResult wait_for(cc4py::Engine& engine, long key) {
    for (;;) {
        cc4py::TaskResult result = engine.retrieve(key);
        if (result.flag != 1) return result;
        CHECK(result.value == -1 && !result.message.empty());
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
}

cc4py::TaskResult ask(cc4py::Engine& engine, int feature) {
    const cc4py::TaskReceipt receipt = engine.submit({1.5, 2.5}, {"ab", "c"}, feature);
    CHECK(receipt.flag == 0 && receipt.key > 0 && receipt.message.empty());
    cc4py::TaskResult result = wait_for(engine, receipt.key);
    CHECK(result.key == receipt.key);
    return result;
}

void start(cc4py::Engine& engine) {
    engine.initialize("{\"a\": [1, 2]}", {"x", "y"}, {"s", "t"});
}

bool fails(const char* model, const std::string& config, const std::string& why) {
    setenv("NEARCALL_MODEL", model, 1);
    cc4py::Engine engine;
    try {
        engine.initialize(config, {}, {});
    } catch (const std::runtime_error& error) {
        return std::string(error.what()).find(why) != std::string::npos;
    }
    return false;
}

void what_goes_wrong_is_a_flag_with_a_message() {
    cc4py::Engine engine(2);
    // Before initialize.
    CHECK(engine.submit({}, {}, 1).flag >= 2 && engine.retrieve(1).flag >= 2);
    engine.finalize();
    start(engine);

    CHECK(ask(engine, 7).value == 14);
    cc4py::TaskResult result = ask(engine, -1);
    CHECK(result.flag == 2 && result.value == 0 && result.message == "not above zero");
    result = ask(engine, -2);
    CHECK(result.flag == 2 && result.value == -1 && result.message.find("1099511627776") != std::string::npos);
    result = ask(engine, -3);
    CHECK(result.flag == 2 && result.value == -1 && result.message.find("str") != std::string::npos);
    result = ask(engine, -4);
    CHECK(result.flag == 2 && result.message.find("ValueError: as asked") != std::string::npos);
    result = ask(engine, -5);
    CHECK(result.flag == 0 && result.value == 5 && result.message.empty());

    // Another number of features than names, and text that is none.
    cc4py::TaskReceipt receipt = engine.submit({1}, {"a", "b"}, 1);
    CHECK(receipt.flag == 2 && receipt.key == 0 && receipt.message.find("float_features") != std::string::npos);
    receipt = engine.submit({1, 2}, {"a", "\xff"}, 1);
    CHECK(receipt.flag >= 2 && receipt.message.find("UTF-8") != std::string::npos);

    // Full, and then not.
    const cc4py::TaskReceipt first = engine.submit({1, 2}, {"a", "b"}, 1);
    const cc4py::TaskReceipt second = engine.submit({1, 2}, {"a", "b"}, 2);
    receipt = engine.submit({1, 2}, {"a", "b"}, 3);
    CHECK(receipt.flag == 1 && receipt.key == 0 && !receipt.message.empty());
    CHECK(wait_for(engine, first.key).value == 6 && wait_for(engine, second.key).value == 7);
    CHECK(engine.retrieve(first.key).flag >= 2 && engine.retrieve(0).flag >= 2 && engine.retrieve(-1).flag >= 2);

    bool thrown = false;
    try {
        start(engine);
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    CHECK(thrown);

    // What was accepted is there to be retrieved after the end.
    const cc4py::TaskReceipt last = engine.submit({1, 2}, {"a", "b"}, 4);
    engine.finalize();
    engine.finalize();
    CHECK(wait_for(engine, last.key).value == 9);
    CHECK(engine.submit({1, 2}, {"a", "b"}, 4).flag == 2);
}

void many_threads_need_no_lock() {
    cc4py::Engine engine(8);
    start(engine);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 16; thread++) {
        threads.emplace_back([&engine, thread] {
            for (int round = 0; round < 100; round++) {
                const int feature = thread * 1000 + round;
                cc4py::TaskReceipt receipt = engine.submit({1, 2}, {"a", "bc"}, feature);
                while (receipt.flag == 1) {
                    std::this_thread::yield();
                    receipt = engine.submit({1, 2}, {"a", "bc"}, feature);
                }
                CHECK(receipt.flag == 0 && receipt.key > 0);
                CHECK(wait_for(engine, receipt.key).value == 6 + feature);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}

void a_forked_child_has_errors_and_harms_nobody() {
    cc4py::Engine engine;
    start(engine);
    const cc4py::TaskReceipt receipt = engine.submit({1, 2}, {"a", "b"}, 5);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(engine.submit({1, 2}, {"a", "b"}, 5).flag == 2);
        CHECK(engine.retrieve(receipt.key).flag == 9);
        engine.finalize();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(wait_for(engine, receipt.key).value == 10);
}

}  // namespace

int main() {
    CHECK(fails("no_such_module:Engine.run", "{}", "no_such_module"));
    CHECK(fails("hosts:Seed.no_such_method", "{}", "no_such_method"));
    CHECK(fails("no colon", "{}", "no colon"));
    CHECK(fails("hosts:Seed.run_big_model", "{", "config_json"));
    setenv("NEARCALL_MODEL", "hosts:Seed.run_big_model", 1);
    what_goes_wrong_is_a_flag_with_a_message();
    many_threads_need_no_lock();
    a_forked_child_has_errors_and_harms_nobody();
    return 0;
}
