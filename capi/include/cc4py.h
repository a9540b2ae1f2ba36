// cc4py: tasks to a Python model, answers from it, by key. Header-only, C++17, over nearcall.h.
//
// The interface names no model: it serves `run_big_model` of `py4cc1.py4cc:Engine`, which is looked for as Python
// does ($PYTHONPATH). $NEARCALL_MODEL names another, as "module:Class.method", "module:Class" (whose instances are
// called) or "module:function". It takes the keywords float_features, str_features and int_feature, and returns
// (value, message), or the value alone: an int. nearcall.hpp is the header for any other model.
//
// Every function may be called from any thread at any time, with no lock around it; the destructor apart, when no
// other thread is in one. In a forked child all of them are errors.

#ifndef CC4PY_H_
#define CC4PY_H_

#include "nearcall.h"

#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cc4py {

// What became of a `submit`.
struct TaskReceipt {
    // 0: accepted. 1: all places are taken, try again later. 2 and up: an error.
    int flag;
    // With flag 0 a positive number, to retrieve the answer by; otherwise 0.
    long key;
    // Why not, when the flag is not 0.
    std::string message;
};

// What became of a `retrieve`.
struct TaskResult {
    // 0: here is the value. 1: not finished, try again later. 2 and up: an error. All but 1 end the task.
    int flag;
    // The key that was asked for.
    long key;
    // The model's value; with another flag than 0 the model's, if it is one of its own (not above 0), else -1.
    int value;
    // With flag 0 the model's message, otherwise what happened.
    std::string message;
};

namespace detail {

static_assert(sizeof(long) >= sizeof(std::int64_t), "a key has 64 bits");

template <class T>
T* made(T* handle) {
    if (handle == nullptr) throw std::bad_alloc();
    return handle;
}

struct Free {
    void operator()(nearcall_builder* it) const { nearcall_builder_free(it); }
    void operator()(nearcall_engine* it) const { nearcall_engine_free(it); }
    void operator()(nearcall_task* it) const { nearcall_task_free(it); }
    void operator()(nearcall_answer* it) const { nearcall_answer_free(it); }
    void operator()(nearcall_value* it) const { nearcall_value_free(it); }
    void operator()(nearcall_error* it) const { nearcall_error_free(it); }
};

template <class T>
using Handle = std::unique_ptr<T, Free>;

// What a thread needs for its calls, made once.
struct Desk {
    Handle<nearcall_task> task{made(nearcall_task_new())};
    Handle<nearcall_answer> answer{made(nearcall_answer_new())};
    Handle<nearcall_error> error{made(nearcall_error_new())};
    std::vector<nearcall_text> texts;

    static Desk& of_this_thread() {
        static thread_local Desk desk;
        return desk;
    }

    std::string message() const {
        std::size_t len = 0;
        const char* text = nearcall_error_message(error.get(), &len);
        return std::string(text, len);
    }
};

}  // namespace detail

// A model in worker processes.
class Engine {
public:
    // `max_tasks`: how many tasks there can be at once, those included that are done and not retrieved yet.
    explicit Engine(int max_tasks = 64) : max_tasks_(max_tasks) {}

    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // Starts the workers, one for each CPU. The names say how many features of each kind a task has. As in the
    // first version of this interface, `config_json` has to be JSON, and the model does not see it.
    //
    // Throws std::runtime_error, with Python's traceback in its message, if they do not start, and for a second
    // time.
    void initialize(
        const std::string& config_json,
        const std::vector<std::string>& float_feature_names,
        const std::vector<std::string>& str_feature_names) {
        const std::lock_guard<std::mutex> one_at_a_time(starting_);
        if (engine_.load(std::memory_order_relaxed) != nullptr) {
            throw std::runtime_error("the engine is initialized already");
        }
        detail::Desk& desk = detail::Desk::of_this_thread();
        const detail::Handle<nearcall_value> config(
            nearcall_value_json(config_json.data(), config_json.size(), desk.error.get()));
        if (!config) throw std::runtime_error("config_json: " + desk.message());

        const char* chosen = std::getenv("NEARCALL_MODEL");
        std::string model = chosen != nullptr ? chosen : "py4cc1.py4cc:Engine.run_big_model";
        std::string method;
        const std::size_t colon = model.find(':');
        const std::size_t dot = model.rfind('.');
        if (colon != std::string::npos && dot != std::string::npos && dot > colon) {
            method = model.substr(dot + 1);
            model.resize(dot);
        }

        const detail::Handle<nearcall_builder> builder(
            detail::made(nearcall_builder_new(model.c_str())));
        if (!method.empty()) nearcall_builder_method(builder.get(), method.c_str());
        const auto floats = static_cast<std::uint32_t>(float_feature_names.size());
        const auto strs = static_cast<std::uint32_t>(str_feature_names.size());
        nearcall_builder_list(
            builder.get(), "float_features", NEARCALL_TYPE_FLOATS, floats, floats);
        nearcall_builder_list(builder.get(), "str_features", NEARCALL_TYPE_STRS, strs, strs);
        nearcall_builder_parameter(builder.get(), "int_feature", NEARCALL_TYPE_INT);
        nearcall_builder_slots(
            builder.get(), max_tasks_ < 0 ? 0 : static_cast<std::size_t>(max_tasks_));

        nearcall_engine* engine = nullptr;
        if (nearcall_start(builder.get(), &engine, desk.error.get()) != NEARCALL_FLAG_OK) {
            throw std::runtime_error(desk.message());
        }
        // Release: whoever sees the engine sees it whole.
        engine_.store(engine, std::memory_order_release);
    }

    // Accepts a task, if there is a place for it. Never waits.
    TaskReceipt submit(
        const std::vector<double>& float_features,
        const std::vector<std::string>& str_features,
        const int int_feature) {
        nearcall_engine* engine = engine_.load(std::memory_order_acquire);
        if (engine == nullptr) return TaskReceipt{NEARCALL_FLAG_ERROR, 0, not_initialized()};
        detail::Desk& desk = detail::Desk::of_this_thread();
        desk.texts.clear();
        for (const std::string& text : str_features) {
            desk.texts.push_back(nearcall_text{text.data(), text.size()});
        }
        nearcall_task* task = desk.task.get();
        nearcall_task_clear(task);
        nearcall_task_floats(task, float_features.data(), float_features.size());
        nearcall_task_strs(task, desk.texts.data(), desk.texts.size());
        nearcall_task_int(task, int_feature);
        std::int64_t key = 0;
        const int flag = nearcall_submit(engine, task, &key, desk.error.get());
        if (flag != NEARCALL_FLAG_OK) return TaskReceipt{flag, 0, desk.message()};
        return TaskReceipt{flag, static_cast<long>(key), std::string()};
    }

    // Takes the answer of a task, if it is done. Never waits.
    TaskResult retrieve(const long key) {
        nearcall_engine* engine = engine_.load(std::memory_order_acquire);
        if (engine == nullptr) return TaskResult{NEARCALL_FLAG_ERROR, key, -1, not_initialized()};
        detail::Desk& desk = detail::Desk::of_this_thread();
        nearcall_answer* answer = desk.answer.get();
        int flag = nearcall_retrieve(engine, key, answer, desk.error.get());
        if (flag != NEARCALL_FLAG_OK) return TaskResult{flag, key, -1, desk.message()};

        std::int64_t value = 0;
        nearcall_text text{nullptr, 0};
        flag = nearcall_answer_int(answer, 0, &value, desk.error.get());
        if (flag == NEARCALL_FLAG_OK && nearcall_answer_count(answer) > 1) {
            flag = nearcall_answer_str(answer, 1, &text, desk.error.get());
        }
        if (flag != NEARCALL_FLAG_OK) return TaskResult{flag, key, -1, desk.message()};
        if (value > INT_MAX || value < INT_MIN) {
            return TaskResult{
                NEARCALL_FLAG_ERROR, key, -1,
                "the model's value " + std::to_string(value) + " does not fit an int"};
        }
        std::string message = text.len == 0 ? std::string() : std::string(text.data, text.len);
        // A value that is not positive is the model's way to say that something went wrong.
        flag = value > 0 ? NEARCALL_FLAG_OK : NEARCALL_FLAG_ERROR;
        return TaskResult{flag, key, static_cast<int>(value), std::move(message)};
    }

    // Ends the workers, when all tasks are done, or after ten seconds. Answers stay to be retrieved. A second time,
    // and before `initialize`, it does nothing.
    void finalize() {
        constexpr std::int64_t ten_seconds = 10'000'000'000;
        nearcall_engine* engine = engine_.load(std::memory_order_acquire);
        if (engine != nullptr) nearcall_shutdown(engine, ten_seconds, nullptr, nullptr);
    }

    ~Engine() {
        finalize();
        nearcall_engine_free(engine_.load(std::memory_order_acquire));
    }

private:
    static std::string not_initialized() { return "the engine is not initialized"; }

    const int max_tasks_;
    std::mutex starting_;
    // Set once, and freed by the destructor alone: so no call needs a lock.
    std::atomic<nearcall_engine*> engine_{nullptr};
};

}  // namespace cc4py

#endif  // CC4PY_H_
