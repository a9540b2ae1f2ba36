// The contract table through nearcall.hpp:
//
//     python3 contract/lines.py cpp | NEARCALL_C_MODELS=contract contract
//
// contract/README.md says what the steps do.

#include "check.h"
#include "nearcall.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <thread>

namespace {

using namespace std::chrono_literals;
constexpr auto patience = 30s;

// A line of the table.
struct Line {
    std::string word;
    std::map<std::string, std::string> fields;

    bool has(const std::string& key) const { return fields.count(key) != 0; }
    const std::string& text(const std::string& key) const {
        if (!has(key)) std::fprintf(stderr, "no %s in %s\n", key.c_str(), word.c_str());
        CHECK(has(key));
        return fields.at(key);
    }
    std::int64_t number(const std::string& key) const { return std::stoll(text(key)); }
    std::chrono::milliseconds ms(const std::string& key) const {
        return std::chrono::milliseconds(number(key));
    }
};

Line parse(const std::string& text) {
    Line line;
    std::size_t from = 0;
    while (from <= text.size()) {
        const std::size_t to = std::min(text.find('\t', from), text.size());
        const std::string field = text.substr(from, to - from);
        const std::size_t equals = field.find('=');
        if (from == 0) {
            line.word = field;
        } else {
            line.fields[field.substr(0, equals)] = field.substr(equals + 1);
        }
        from = to + 1;
    }
    return line;
}

template <class Condition>
bool comes_true(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        std::this_thread::sleep_for(1ms);
    }
    return true;
}

// The last error of any step.
std::optional<nearcall::Error> last_error;

template <class T>
std::string end_of(const nearcall::Result<T>& result) {
    if (result) return "ok";
    last_error = result.error();
    return std::string(result.error().word());
}

class Case {
public:
    explicit Case(const Line& line) : name_(line.text("name")) {
        char folder[] = "/tmp/nearcall-contract-XXXXXX";
        CHECK(mkdtemp(folder) != nullptr);
        folder_ = folder;
        nearcall::Builder builder("model:Model");
        builder.method("run").python_path(models()).add_str("op").add_int("x");
        builder.init_kwargs_json("{\"folder\": \"" + folder_.string() + "\"}");
        builder.workers(static_cast<std::size_t>(line.number("workers")));
        builder.slots(static_cast<std::size_t>(line.number("slots")));
        builder.slot_bytes(static_cast<std::size_t>(line.number("slot_bytes")));
        builder.payload_bytes(static_cast<std::size_t>(line.number("payload_bytes")));
        builder.retries(static_cast<std::uint32_t>(line.number("retries")));
        if (line.has("interrupt_ms")) builder.interrupt(line.ms("interrupt_ms"));
        nearcall::Result<nearcall::Engine> started = builder.start();
        expect(end_of(started), "ok");
        engine_.emplace(std::move(*started));
        pids();
    }

    void finish() {
        pids();
        engine_.reset();
        for (const std::uint32_t pid : seen_) {
            const std::filesystem::path process = "/proc/" + std::to_string(pid);
            CHECK(comes_true([&process] { return !std::filesystem::exists(process); }));
        }
        std::filesystem::remove_all(folder_);
        std::cout << "contract cpp " << name_ << " ... ok" << std::endl;
    }

    // Carries out the line at an index. Gives the next one.
    std::size_t step(const std::vector<Line>& lines, std::size_t at) {
        const Line& line = lines[at];
        here_ = &line;
        at_ = at;
        if (line.word == "submit") {
            task(line.text("op"), line.number("x"));
            nearcall::Result<nearcall::Ticket> ticket =
                line.has("deadline_ms") ? engine_->submit_by(task_, line.ms("deadline_ms"))
                                        : engine_->submit(task_);
            expect(end_of(ticket), line.text("expect"));
            // By its key: a key is asked for also after its end.
            if (ticket && line.has("as")) keys_[line.text("as")] = ticket->release();
        } else if (line.word == "call") {
            task(line.text("op"), line.number("x"));
            check_end(engine_->call_into(task_, line.ms("deadline_ms"), answer_));
        } else if (line.word == "retrieve") {
            retrieve();
        } else if (line.word == "wait") {
            check_end(engine_->wait_into(key("key"), line.ms("within_ms"), answer_));
        } else if (line.word == "cancel") {
            holds(engine_->cancel(key("key")) == (line.number("expect") != 0), "cancel");
        } else if (line.word == "abandon") {
            engine_->abandon(key("key"));
        } else if (line.word == "forge") {
            const std::int64_t of = key("of");
            keys_[line.text("as")] = line.text("how") == "later" ? of + 65'536'000 : of | 0xFFFF;
        } else if (line.word == "misfit") {
            misfit();
        } else if (line.word == "message") {
            holds(last_error && last_error->message().find(line.text("contains")) != std::string::npos, "message");
        } else if (line.word == "file") {
            const std::filesystem::path file = folder_ / line.text("name");
            if (line.number("there") != 0) {
                holds(std::ofstream(file).good(), "made");
            } else {
                holds(std::filesystem::remove(file), "removed");
            }
        } else if (line.word == "until") {
            holds(comes_true([this] { return is_so(); }), "until");
        } else if (line.word == "kill_worker") {
            kill_worker();
        } else if (line.word == "shutdown") {
            const nearcall::Shutdown ended = engine_->shutdown(line.ms("within_ms"));
            holds(ended.drained == (line.number("drained") != 0), "drained");
        } else if (line.word == "forked_child") {
            return forked_child(lines, at);
        } else {
            holds(false, "a step that there is");
        }
        return at + 1;
    }

private:
    void holds(bool condition, const std::string& what) const {
        if (condition) return;
        std::cerr << name_ << ", line " << at_ + 1 << " (" << (here_ ? here_->word : "start")
                  << "): not so: " << what
                  << "; last error: " << (last_error ? last_error->message() : "none") << std::endl;
        std::exit(1);
    }
    void expect(const std::string& found, const std::string& wanted) const {
        holds(found == wanted, found + " is " + wanted);
    }
    std::int64_t key(const std::string& field) { return keys_.at(here_->text(field)); }

    void task(const std::string& op, std::int64_t x) {
        op_ = op;
        task_.clear().add_str(op_).add_int(x);
    }

    void check_value() const {
        if (here_->has("value")) {
            const auto value = answer_.get_int();
            holds(value && *value == here_->number("value"), "value");
        }
        if (here_->has("length")) {
            const auto text = answer_.get_str();
            holds(text && text->size() == static_cast<std::size_t>(here_->number("length")), "length");
        }
    }
    void check_end(const nearcall::Result<void>& result) const {
        expect(end_of(result), here_->text("expect"));
        if (result) check_value();
    }
    void retrieve() {
        const nearcall::Result<bool> done = engine_->retrieve_into(key("key"), answer_);
        if (done && !*done) return expect("pending", here_->text("expect"));
        expect(end_of(done), here_->text("expect"));
        if (done) check_value();
    }

    void misfit() {
        const std::string& how = here_->text("how");
        op_ = how == "large" ? std::string(100'000, 'x') : std::string("echo");
        task_.clear().add_str(op_);
        if (how == "large") task_.add_int(1);
        if (how == "type") task_.add_str("1");
        expect(end_of(engine_->submit(task_)), here_->text("expect"));
    }

    std::vector<std::uint32_t> runs(std::int64_t x) const {
        std::ifstream file(folder_ / ("runs-" + std::to_string(x)));
        std::vector<std::uint32_t> pids;
        for (std::uint32_t pid = 0; file >> pid;) pids.push_back(pid);
        return pids;
    }
    std::vector<std::uint32_t> pids() {
        std::vector<std::uint32_t> found = engine_->worker_pids();
        seen_.insert(found.begin(), found.end());
        return found;
    }
    bool is_worker(std::uint32_t pid) {
        const std::vector<std::uint32_t> found = pids();
        return std::find(found.begin(), found.end(), pid) != found.end();
    }

    bool is_so() {
        const std::string& what = here_->text("what");
        if (what == "call") {
            task("echo", 0);
            return end_of(engine_->call_into(task_, patience, answer_)) == here_->text("is");
        }
        const auto is = static_cast<std::size_t>(here_->number("is"));
        if (what == "in_use") return engine_->in_use() == is;
        if (what == "workers") return pids().size() == is;
        CHECK(what == "runs");
        return runs(here_->number("x")).size() == is;
    }

    void kill_worker() {
        std::uint32_t pid = 0;
        if (here_->has("x")) {
            const std::vector<std::uint32_t> begun = runs(here_->number("x"));
            holds(!begun.empty() && is_worker(begun.back()), "a worker runs it");
            pid = begun.back();
        } else {
            holds(!pids().empty(), "there is a worker");
            pid = pids().front();
        }
        holds(pid > 1 && kill(static_cast<pid_t>(pid), SIGKILL) == 0, "killed");
        holds(comes_true([this, pid] { return !is_worker(pid); }), "it is gone");
    }

    std::size_t forked_child(const std::vector<Line>& lines, std::size_t at) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (at++; lines[at].word != "end_of_child";) at = step(lines, at);
            _exit(0);
        }
        int status = 0;
        holds(waitpid(child, &status, 0) == child && status == 0, "all went well in the child");
        while (lines[at].word != "end_of_child") at++;
        return at + 1;
    }

    std::string name_;
    std::filesystem::path folder_;
    std::map<std::string, std::int64_t> keys_;
    std::set<std::uint32_t> seen_;
    const Line* here_ = nullptr;
    std::size_t at_ = 0;
    std::string op_;
    nearcall::Task task_;
    nearcall::Answer answer_;
    std::optional<nearcall::Engine> engine_;
};

}  // namespace

int main() {
    std::vector<Line> lines;
    for (std::string text; std::getline(std::cin, text);) lines.push_back(parse(text));
    std::size_t cases = 0;
    std::optional<Case> current;
    for (std::size_t at = 0; at < lines.size();) {
        if (lines[at].word == "case") {
            current.emplace(lines[at++]);
        } else if (lines[at].word == "end") {
            current->finish();
            current.reset();
            cases++;
            at++;
        } else {
            at = current->step(lines, at);
        }
    }
    CHECK(cases > 0);
    std::cout << cases << " passed, 0 failed" << std::endl;
    return 0;
}
