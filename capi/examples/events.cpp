// One thread, an epoll loop, and many tasks at once: the engine says which are over. Serves python/models/echo.py.

#include <nearcall.hpp>

#include <sys/epoll.h>
#include <unistd.h>

#include <iostream>
#include <map>

int main(int argc, char** argv) {
    nearcall::Builder builder("echo:echo");
    builder.python_path(argc > 1 ? argv[1] : "python/models").add_int("number").slots(32);
    const nearcall::Result<nearcall::Engine> engine = builder.start();
    if (!engine) {
        std::cerr << engine.error().message() << std::endl;
        return 1;
    }

    // The engine's descriptor beside all others that the service watches.
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    epoll_ctl(loop, EPOLL_CTL_ADD, engine->completions_fd().value(), &wanted);

    nearcall::Task task;
    nearcall::Answer answer;
    std::map<std::int64_t, std::int64_t> running;  // key, number
    std::int64_t next = 0, sum = 0, answers = 0;
    std::vector<std::int64_t> over;
    while (answers < 1000) {
        // As many as there is room for.
        while (next < 1000) {
            nearcall::Result<nearcall::Ticket> ticket = engine->submit(task.clear().add_int(next));
            if (!ticket) break;
            const bool is_over = engine->notify(*ticket).value();
            const std::int64_t key = ticket->release();
            running.emplace(key, next++);
            if (is_over) over.push_back(key);
        }
        if (over.empty()) {
            epoll_event event;
            epoll_wait(loop, &event, 1, 10'000);
            engine->dispatch(over).value();
        }
        for (const std::int64_t key : over) {
            const nearcall::Result<bool> done = engine->retrieve_into(key, answer);
            if (!done) std::cerr << done.error().message() << std::endl;
            const nearcall_view& dict = answer.view();  // {"number": …}
            if (!done || dict.items[0].integer != running.at(key)) return 1;
            sum += dict.items[0].integer;
            answers++;
            running.erase(key);
        }
        over.clear();
    }
    close(loop);
    std::cout << answers << " answers, sum " << sum << std::endl;  // 499500
    return 0;
}
