// nearcall.hpp with Python's workers. Compiled for each standard that the header knows.

#include "check.h"
#include "nearcall.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

namespace {

using namespace std::chrono_literals;
constexpr auto patience = 30s;

nearcall::Engine start(const nearcall::Builder& builder) {
    nearcall::Result<nearcall::Engine> engine = builder.start();
    if (!engine) std::fprintf(stderr, "%s\n", engine.error().message().c_str());
    CHECK(engine.has_value());
    return std::move(*engine);
}

nearcall::Builder builder_for(const std::string& model) {
    nearcall::Builder builder(model);
    builder.python_path(models()).workers(1).start_deadline(patience);
    return builder;
}

void what_goes_in_comes_out() {
    nearcall::Builder builder = builder_for("hosts:everything");
    builder.add_bool("b").add_int("i").add_float("f").add_str("s").add_bools("bs");
    builder.add_ints("iss", nearcall::Length::exactly(2)).add_floats("fs", nearcall::Length::between(0, 3));
    builder.add_strs("ss").add_value("v");
    const nearcall::Engine engine = start(builder);

    const bool bools[] = {true, false};
    const std::vector<std::int64_t> ints{1, -2};
    const std::vector<double> floats{0.5, 1.5, -0.0};
    const std::vector<std::string> strs{"a", "", std::string("x\0y", 3)};
    const std::string s = "gr\xc3\xbc\xc3\x9f";
    const std::vector<std::size_t> shape{3};
    const std::vector<float> elements{1, 2, 3};
    nearcall::Value dict = nearcall::Value::dict();
    nearcall::Value list = nearcall::Value::list();
    CHECK(list.push(nearcall::Value::none()) && list.push(nearcall::Value::of_bool(true)));
    CHECK(list.push(nearcall::Value::of_int(7)) && list.push(nearcall::Value::of_float(7.5)));
    CHECK(dict.insert("list", std::move(list)));
    CHECK(dict.insert("str", *nearcall::Value::of_str("t")));
    CHECK(dict.insert("array", *nearcall::Value::of_tensor<float>(shape, elements)));
    CHECK(!dict.insert("str", nearcall::Value::none()));
    CHECK(!nearcall::Value::of_str("\xff"));
    CHECK(!nearcall::Value::of_tensor<float>(shape, nearcall::span<const float>(elements.data(), 2)));
    CHECK(nearcall::Value::of_json("{\"a\": [1]}").has_value());
    CHECK(!nearcall::Value::of_json("{").has_value());

    nearcall::Task task;
    nearcall::Answer answer;
    for (int round = 0; round < 2; round++) {
        task.clear().add_bool(true).add_int(-7).add_float(2.5).add_str(s).add_bools(bools);
        task.add_ints(ints).add_floats(floats).add_strs(strs).add_value(dict);
        const nearcall::Result<void> called = engine.call_into(task, patience, answer);
        if (!called) std::fprintf(stderr, "%s\n", called.error().message().c_str());
        CHECK(called.has_value());
    }
    CHECK(answer.count() == 9);
    CHECK(answer.kind(8) == NEARCALL_KIND_DICT && !answer.kind(9).has_value());
    CHECK(answer.get_bool(0).value());
    CHECK(answer.get_int(1).value() == -7);
    CHECK(answer.get_float(2).value() == 2.5);
    CHECK(answer.get_str(3).value() == s);
    CHECK(answer.get_ints(5).value() == ints);
    CHECK(answer.get_floats(6).value() == floats);
    const std::vector<std::string_view> out = answer.get_strs(7).value();
    CHECK(out.size() == 3 && out[1].empty() && out[2] == strs[2]);
    const nearcall_view& view = answer.view();
    CHECK(view.items[8].count == 3 && view.items[8].items[0].items[2].integer == 7);

    const nearcall::Result<std::int64_t> none = answer.get_int(3);
    CHECK(!none && none.error().code() == NEARCALL_CODE_ANSWER && none.error().word() == "answer");
    bool thrown = false;
    try {
        (void)answer.get_int(3).value();
    } catch (const std::exception&) {
        thrown = true;
    }
    CHECK(thrown);
}

void arrays_and_bytes_come_back() {
    nearcall::Builder builder = builder_for("hosts:echo");
    builder.add_value("v");
    const nearcall::Engine engine = start(builder);
    const std::vector<std::size_t> shape{2, 3};
    const std::vector<double> elements{1, 2, 3, 4, 5, 6};
    nearcall::Task task;
    task.add_tensor<double>(shape, elements);
    nearcall::Answer answer = engine.call(task, patience).value();
    const nearcall::TensorView tensor = answer.get_tensor().value();
    CHECK(tensor.dtype() == NEARCALL_DTYPE_F64 && tensor.shape().size() == 2 && tensor.shape()[1] == 3);
    CHECK(tensor.to_vector<double>() == elements && !tensor.to_vector<float>().has_value());
    const std::byte bytes[] = {std::byte{0}, std::byte{255}};
    task.clear().add_bytes(bytes);
    answer = engine.call(task, patience).value();
    CHECK(answer.get_bytes().value().size() == 2 && answer.get_bytes().value()[1] == std::byte{255});
}

nearcall::Engine steps(std::size_t slots) {
    nearcall::Builder builder = builder_for("hosts:Steps");
    builder.method("run").add_str("op").add_int("x").slots(slots);
    return start(builder);
}

void what_goes_wrong_says_what_it_was() {
    const nearcall::Engine engine = steps(8);
    nearcall::Task task;

    const nearcall::Result<nearcall::Answer> raised =
        engine.call(task.clear().add_str("raise").add_int(7), patience);
    CHECK(!raised && raised.error().code() == NEARCALL_CODE_PYTHON && raised.error().flag() == 2);
    CHECK(raised.error().exception() == "ValueError");
    CHECK(raised.error().traceback().find("in run") != std::string::npos);
    // With its NUL.
    CHECK(raised.error().message().find(std::string("as asked: \0" "7", 12)) != std::string::npos);
    const nearcall::Result<nearcall::Answer> late =
        engine.call(task.clear().add_str("hang").add_int(7), 50ms);
    CHECK(!late && late.error().code() == NEARCALL_CODE_DEADLINE_PASSED);
    // A deadline that has passed, one that no clock gets to, and a point in time.
    CHECK(!engine.call(task, -1s));
    CHECK(!engine.call(task, std::chrono::steady_clock::time_point::min()));
    // Something else instead of an error, for what can be moved only.
    CHECK(engine.call(task, -1s).value_or(nearcall::Answer()).count() == 1);
    CHECK(engine.call(task.clear().add_str("echo").add_int(1), std::chrono::hours::max()));
    CHECK(engine.call(task, std::chrono::steady_clock::now() + patience));
    CHECK(engine.call(task, std::chrono::steady_clock::time_point::max()));
}

void tickets_are_tasks() {
    const nearcall::Engine engine = steps(2);
    nearcall::Task task;
    {
        nearcall::Ticket first = engine.submit(task.clear().add_str("hang").add_int(1)).value();
        const nearcall::Ticket second = engine.submit(task.clear().add_str("echo").add_int(2)).value();
        const nearcall::Result<nearcall::Ticket> third = engine.submit(task);
        CHECK(!third && third.error().is_temporary() && third.error().word() == "full");
        CHECK(engine.in_use() == 2 && first.key() > 0);
        CHECK(!engine.retrieve(second).value().has_value());
        const nearcall::Result<nearcall::Answer> waited = engine.wait(second, 1ms);
        CHECK(!waited && waited.error().is_temporary());
        CHECK(!engine.cancel_waiting(std::int64_t{-1}));
        // Moved, not abandoned.
        nearcall::Ticket moved = std::move(first);
        CHECK(engine.cancel(moved) && !engine.cancel(moved));
        const nearcall::Result<std::optional<nearcall::Answer>> cancelled = engine.retrieve(moved);
        CHECK(!cancelled && cancelled.error().code() == NEARCALL_CODE_CANCELLED);
        CHECK(engine.wait(second, patience).value().get_int().value() == 2);
    }
    // Tickets that go abandon their tasks.
    std::int64_t key = 0;
    {
        const nearcall::Ticket dropped =
            engine.submit_by(task.clear().add_str("hang").add_int(1), 20s).value();
        key = dropped.key();
    }
    const auto gone = engine.retrieve(key);
    CHECK(!gone && gone.error().code() == NEARCALL_CODE_ALREADY_RETRIEVED);

    const nearcall::Engine another = steps(2);
    key = another.submit(task.clear().add_str("echo").add_int(3)).value().release();
    nearcall::Answer answer;
    CHECK(another.wait_into(key, patience, answer) && answer.get_int().value() == 3);
    CHECK(another.health().value().wanted == 1 && another.worker_pids().size() == 1);
    CHECK(another.reload(patience).value() == 1);
    CHECK(another.shutdown(patience).drained);
    CHECK(another.submit(task).error().code() == NEARCALL_CODE_CLOSED);
}

void a_start_that_fails_says_why() {
    nearcall::Builder builder = builder_for("hosts:Steps");
    builder.method("run").add_str("op").add_int("x").init_kwargs_json("{\"broken\": true}");
    const nearcall::Result<nearcall::Engine> failed = builder.start();
    CHECK(!failed && failed.error().code() == NEARCALL_CODE_START);
    CHECK(failed.error().traceback().find("broken on purpose") != std::string::npos);
    CHECK(!nearcall::Builder("no colon").start().has_value());
}

void reserved_arrays_are_read_where_they_were_written() {
    nearcall::Builder builder = builder_for("hosts:double_all");
    builder.add_value("image").add_value("out");
    const nearcall::Engine engine = start(builder);
    nearcall::Reserved place = engine.reserve({
        nearcall::Spec::input<double>({4}), nearcall::Spec::output<double>({4})}).value();
    const nearcall::span<double> image = place.elements<double>(0).value();
    CHECK(image.size() == 4);
    for (double& element : image) element = 1.5;
    CHECK(!place.elements<float>(0) && !place.elements<double>(1) && !place.elements<double>(2));
    nearcall::Task task;
    task.add_reserved(0).add_reserved(1);
    const nearcall::Ticket ticket = place.submit(task, patience).value();
    CHECK(engine.wait(ticket, patience).value().get_int().value() == 4);
    CHECK(place.call(task, patience).error().code() == NEARCALL_CODE_SUBMITTED);
}

void an_event_loop_learns_of_the_end_of_tasks() {
    const nearcall::Engine engine = steps(8);
    const int fd = engine.completions_fd().value();
    nearcall::Task task;
    const nearcall::Ticket ticket = engine.submit(task.add_str("hang").add_int(5)).value();
    CHECK(!engine.notify(ticket).value());
    CHECK(engine.cancel(ticket));
    std::vector<std::int64_t> over;
    while (over.empty()) {
        pollfd watched{fd, POLLIN, 0};
        CHECK(poll(&watched, 1, 30'000) == 1);
        CHECK(engine.dispatch(over).has_value());
    }
    CHECK(over.size() == 1 && over[0] == ticket.key());
}

void many_threads_use_one_engine() {
    const nearcall::Engine engine = steps(3);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; thread++) {
        threads.emplace_back([&engine, thread] {
            nearcall::Task task;
            nearcall::Answer answer;
            for (int round = 0; round < 200; round++) {
                const std::int64_t x = thread * 1000 + round;
                task.clear().add_str("echo").add_int(x);
                for (;;) {
                    const nearcall::Result<void> called = engine.call_into(task, patience, answer);
                    if (called) break;
                    CHECK(called.error().is_temporary());
                    std::this_thread::yield();
                }
                CHECK(answer.get_int().value() == x);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(engine.in_use() == 0);
}

void in_a_forked_child_every_call_is_an_error() {
    nearcall::Engine engine = steps(2);
    nearcall::Task task;
    task.add_str("echo").add_int(1);
    nearcall::Ticket ticket = engine.submit(task).value();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(engine.submit(task).error().code() == NEARCALL_CODE_FORKED_CHILD);
        CHECK(engine.retrieve(ticket).error().code() == NEARCALL_CODE_FORKED_CHILD);
        { const nearcall::Ticket gone = std::move(ticket); }
        { const nearcall::Engine gone = std::move(engine); }
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(engine.wait(ticket, patience).value().get_int().value() == 1);
}

}  // namespace

int main() {
    CHECK(!nearcall::version().empty());
    what_goes_in_comes_out();
    arrays_and_bytes_come_back();
    what_goes_wrong_says_what_it_was();
    tickets_are_tasks();
    a_start_that_fails_says_why();
    reserved_arrays_are_read_where_they_were_written();
    an_event_loop_learns_of_the_end_of_tasks();
    many_threads_use_one_engine();
    in_a_forked_child_every_call_is_an_error();
    return 0;
}
