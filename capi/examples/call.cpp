// Serves python/models/big_model.py from two worker processes and calls it from eight threads.

#include <nearcall.hpp>

#include <atomic>
#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
    nearcall::Builder builder("big_model:Engine");  // module:Class, or module:function
    builder.method("run_big_model").python_path(argc > 1 ? argv[1] : "python/models");
    builder.add_floats("float_features", nearcall::Length::exactly(3));
    builder.add_strs("str_features", nearcall::Length::exactly(2)).add_int("int_feature");
    const nearcall::Result<nearcall::Engine> engine = builder.workers(2).start();
    if (!engine) {  // a failed import comes with Python's traceback
        std::cerr << engine.error().message() << std::endl;
        return 1;
    }

    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; thread++) {
        threads.emplace_back([&engine, &wrong, thread] {
            // Used again for each call: then it allocates nothing.
            nearcall::Task task;
            nearcall::Answer answer;
            const std::vector<double> floats{1.1, 11.2, 0.3};
            const std::vector<std::string> strs{"abc", "cdavfdv"};
            for (int round = 0; round < 100; round++) {
                const int feature = 100 * thread + round;
                task.clear().add_floats(floats).add_strs(strs).add_int(feature);
                const auto called = engine->call_into(task, 1s, answer);
                if (!called) {
                    std::cerr << called.error().word() << ": " << called.error().message() << std::endl;
                    wrong++;
                } else if (answer.get_int(0).value() != 22 + feature) {
                    wrong++;
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();

    const nearcall::Shutdown ended = engine->shutdown(5s);
    std::cout << "800 calls, " << wrong << " wrong, "
              << (ended.drained ? "drained" : "not drained") << std::endl;
    return wrong == 0 ? 0 : 1;
}
