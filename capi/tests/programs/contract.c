/* The contract table through nearcall.h:
 *
 *     python3 contract/lines.py c | NEARCALL_C_MODELS=contract contract
 *
 * contract/README.md says what the steps do. */

#define _GNU_SOURCE
#include "check.h"
#include "nearcall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int64_t millisecond = 1000000;
static const int64_t patience = 30000000000;

/* One line of the table: fields[0] is the word, the others key=value. */
typedef struct entry {
    char *text;
    char *fields[24];
    size_t count;
} entry;

static entry lines[4096];
static size_t line_count;

/* What a case has. */
static char folder[64];
static nearcall_engine *engine;
static struct {
    char name[32];
    int64_t key;
} keys[32];
static size_t key_count;
static uint32_t seen[256];
static size_t seen_count;

static nearcall_error *error;
static nearcall_answer *answer;
static nearcall_task *task;
static const char *case_name = "";
static size_t at;

#define EXPECT(condition)                                                                             \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "%s, line %zu (%s): not so: %s; last error: %s\n", case_name, at + 1,     \
                    lines[at].fields[0], #condition, nearcall_error_message(error, NULL));            \
            exit(1);                                                                                  \
        }                                                                                             \
    } while (0)

static void read_lines(void) {
    char *text = NULL;
    size_t room = 0;
    while (getline(&text, &room, stdin) > 0) {
        CHECK(line_count < sizeof lines / sizeof *lines);
        entry *next = &lines[line_count++];
        next->text = text;
        text = NULL;
        room = 0;
        next->text[strcspn(next->text, "\n")] = '\0';
        char *rest = next->text;
        char *field;
        while ((field = strsep(&rest, "\t")) != NULL) {
            CHECK(next->count < sizeof next->fields / sizeof *next->fields);
            next->fields[next->count++] = field;
        }
    }
    free(text);
    CHECK(line_count > 0);
}

/* The value of a key, or NULL. */
static const char *get(const entry *line, const char *key) {
    const size_t len = strlen(key);
    for (size_t index = 1; index < line->count; index++) {
        if (strncmp(line->fields[index], key, len) == 0 && line->fields[index][len] == '=') {
            return line->fields[index] + len + 1;
        }
    }
    return NULL;
}

static const char *need(const entry *line, const char *key) {
    const char *value = get(line, key);
    if (value == NULL) fprintf(stderr, "no %s in: %s\n", key, line->text);
    CHECK(value != NULL);
    return value;
}

static int64_t number(const entry *line, const char *key) { return strtoll(need(line, key), NULL, 10); }

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void moment(void) {
    const struct timespec moment = {0, 1000000};
    nanosleep(&moment, NULL);
}

static char *path(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int64_t *key_of(const char *name) {
    for (size_t index = 0; index < key_count; index++) {
        if (strcmp(keys[index].name, name) == 0) return &keys[index].key;
    }
    CHECK(key_count < sizeof keys / sizeof *keys);
    snprintf(keys[key_count].name, sizeof keys->name, "%s", name);
    return &keys[key_count++].key;
}

static size_t workers(uint32_t *pids, size_t room) {
    const size_t found = nearcall_worker_pids(engine, pids, room);
    CHECK(found <= room);
    for (size_t index = 0; index < found; index++) {
        bool known = false;
        for (size_t other = 0; other < seen_count; other++) known |= seen[other] == pids[index];
        if (!known && seen_count < sizeof seen / sizeof *seen) seen[seen_count++] = pids[index];
    }
    return found;
}

static bool is_worker(uint32_t pid) {
    uint32_t pids[64];
    const size_t found = workers(pids, 64);
    for (size_t index = 0; index < found; index++) {
        if (pids[index] == pid) return true;
    }
    return false;
}

/* The word of how something ended. */
static const char *word(int flag) {
    return flag == NEARCALL_FLAG_OK ? "ok" : nearcall_code_word(nearcall_error_code(error));
}

static void check_end(const entry *line, int flag) {
    const char *expect = need(line, "expect");
    if (strcmp(expect, "pending") == 0) {
        EXPECT(flag == NEARCALL_FLAG_AGAIN);
        return;
    }
    EXPECT(strcmp(word(flag), expect) == 0);
    if (flag != NEARCALL_FLAG_OK) return;
    if (get(line, "value") != NULL) {
        int64_t value = 0;
        EXPECT(nearcall_answer_int(answer, 0, &value, error) == 0 && value == number(line, "value"));
    }
    if (get(line, "length") != NULL) {
        nearcall_text text = {NULL, 0};
        EXPECT(nearcall_answer_str(answer, 0, &text, error) == 0);
        EXPECT(text.len == (size_t)number(line, "length"));
    }
}

static void prepare(const char *op, int64_t x) {
    nearcall_task_clear(task);
    nearcall_task_str(task, op, strlen(op));
    nearcall_task_int(task, x);
}

/* How many lines a file has, and the number on the last one. */
static int64_t runs_of(int64_t x, uint32_t *last) {
    char name[32];
    snprintf(name, sizeof name, "runs-%lld", (long long)x);
    FILE *file = fopen(path(name), "r");
    if (file == NULL) return 0;
    int64_t count = 0;
    unsigned pid = 0;
    while (fscanf(file, "%u", &pid) == 1) count++;
    fclose(file);
    if (last != NULL) *last = pid;
    return count;
}

static bool holds(const entry *line) {
    const char *what = need(line, "what");
    if (strcmp(what, "in_use") == 0) return nearcall_in_use(engine) == (size_t)number(line, "is");
    if (strcmp(what, "workers") == 0) {
        uint32_t pids[64];
        return workers(pids, 64) == (size_t)number(line, "is");
    }
    if (strcmp(what, "runs") == 0) return runs_of(number(line, "x"), NULL) == number(line, "is");
    CHECK(strcmp(what, "call") == 0);
    prepare("echo", 0);
    return strcmp(word(nearcall_call(engine, task, patience, answer, error)), need(line, "is")) == 0;
}

static void kill_worker(const entry *line) {
    uint32_t pid = 0;
    if (get(line, "x") != NULL) {
        EXPECT(runs_of(number(line, "x"), &pid) > 0);
        EXPECT(is_worker(pid));
    } else {
        uint32_t pids[64];
        EXPECT(workers(pids, 64) > 0);
        pid = pids[0];
    }
    EXPECT(pid > 1 && kill((pid_t)pid, SIGKILL) == 0);
    const int64_t end = now() + patience;
    while (is_worker(pid)) {
        EXPECT(now() < end);
        moment();
    }
}

static void start(const entry *line) {
    case_name = need(line, "name");
    snprintf(folder, sizeof folder, "/tmp/nearcall-contract-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    char json[128];
    snprintf(json, sizeof json, "{\"folder\": \"%s\"}", folder);
    nearcall_builder *builder = nearcall_builder_new("model:Model");
    nearcall_builder_method(builder, "run");
    nearcall_builder_python_path(builder, models());
    nearcall_builder_init_kwargs_json(builder, json);
    nearcall_builder_parameter(builder, "op", NEARCALL_TYPE_STR);
    nearcall_builder_parameter(builder, "x", NEARCALL_TYPE_INT);
    nearcall_builder_workers(builder, (size_t)number(line, "workers"));
    nearcall_builder_slots(builder, (size_t)number(line, "slots"));
    nearcall_builder_slot_bytes(builder, (size_t)number(line, "slot_bytes"));
    nearcall_builder_payload_bytes(builder, (size_t)number(line, "payload_bytes"));
    nearcall_builder_retries(builder, (uint32_t)number(line, "retries"));
    if (get(line, "interrupt_ms") != NULL) {
        nearcall_builder_interrupt(builder, number(line, "interrupt_ms") * millisecond);
    }
    EXPECT(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_OK);
    nearcall_builder_free(builder);
    key_count = 0;
    seen_count = 0;
    uint32_t pids[64];
    workers(pids, 64);
}

static void end(void) {
    uint32_t pids[64];
    workers(pids, 64);
    nearcall_engine_free(engine);
    engine = NULL;
    const int64_t deadline = now() + patience;
    for (size_t index = 0; index < seen_count; index++) {
        char process[32];
        snprintf(process, sizeof process, "/proc/%u", seen[index]);
        while (access(process, F_OK) == 0) {
            EXPECT(now() < deadline);
            moment();
        }
    }
    DIR *files = opendir(folder);
    CHECK(files != NULL);
    struct dirent *file;
    while ((file = readdir(files)) != NULL) {
        if (file->d_name[0] != '.') unlink(path(file->d_name));
    }
    closedir(files);
    CHECK(rmdir(folder) == 0);
    printf("contract c %s ... ok\n", case_name);
    fflush(stdout);
}

static void step(const entry *line);

/* Runs the lines up to end_of_child in a forked child. */
static void forked_child(void) {
    const pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        for (at++; strcmp(lines[at].fields[0], "end_of_child") != 0; at++) step(&lines[at]);
        _exit(0);
    }
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    while (strcmp(lines[at].fields[0], "end_of_child") != 0) at++;
}

static void misfit(const entry *line) {
    static char large[100000];
    const char *how = need(line, "how");
    int64_t key = 0;
    prepare("echo", 1);
    nearcall_task_clear(task);
    if (strcmp(how, "large") == 0) {
        memset(large, 'x', sizeof large);
        nearcall_task_str(task, large, sizeof large);
        nearcall_task_int(task, 1);
    } else {
        nearcall_task_str(task, "echo", 4);
        if (strcmp(how, "type") == 0) {
            nearcall_task_str(task, "1", 1);
        } else {
            CHECK(strcmp(how, "count") == 0);
        }
    }
    EXPECT(strcmp(word(nearcall_submit(engine, task, &key, error)), need(line, "expect")) == 0);
}

static void step(const entry *line) {
    const char *what = line->fields[0];
    if (strcmp(what, "submit") == 0) {
        int64_t key = 0;
        prepare(need(line, "op"), number(line, "x"));
        const int64_t limit = get(line, "deadline_ms") ? number(line, "deadline_ms") * millisecond : -1;
        const int flag = nearcall_submit_by(engine, task, limit, &key, error);
        EXPECT(strcmp(word(flag), need(line, "expect")) == 0);
        if (get(line, "as") != NULL) *key_of(need(line, "as")) = key;
    } else if (strcmp(what, "call") == 0) {
        prepare(need(line, "op"), number(line, "x"));
        const int64_t limit = number(line, "deadline_ms") * millisecond;
        check_end(line, nearcall_call(engine, task, limit, answer, error));
    } else if (strcmp(what, "retrieve") == 0) {
        check_end(line, nearcall_retrieve(engine, *key_of(need(line, "key")), answer, error));
    } else if (strcmp(what, "wait") == 0) {
        const int64_t limit = number(line, "within_ms") * millisecond;
        check_end(line, nearcall_wait(engine, *key_of(need(line, "key")), limit, answer, error));
    } else if (strcmp(what, "cancel") == 0) {
        bool was_running = false;
        EXPECT(nearcall_cancel(engine, *key_of(need(line, "key")), &was_running) == 0);
        EXPECT(was_running == (number(line, "expect") != 0));
    } else if (strcmp(what, "abandon") == 0) {
        EXPECT(nearcall_abandon(engine, *key_of(need(line, "key"))) == 0);
    } else if (strcmp(what, "forge") == 0) {
        const int64_t key = *key_of(need(line, "of"));
        const bool later = strcmp(need(line, "how"), "later") == 0;
        *key_of(need(line, "as")) = later ? key + 65536000 : (key | 0xFFFF);
    } else if (strcmp(what, "misfit") == 0) {
        misfit(line);
    } else if (strcmp(what, "message") == 0) {
        size_t len = 0;
        const char *message = nearcall_error_message(error, &len);
        const char *part = need(line, "contains");
        EXPECT(memmem(message, len, part, strlen(part)) != NULL);
    } else if (strcmp(what, "file") == 0) {
        if (number(line, "there") != 0) {
            const int file = open(path(need(line, "name")), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
            EXPECT(file >= 0 && close(file) == 0);
        } else {
            EXPECT(unlink(path(need(line, "name"))) == 0);
        }
    } else if (strcmp(what, "until") == 0) {
        const int64_t deadline = now() + patience;
        while (!holds(line)) {
            EXPECT(now() < deadline);
            moment();
        }
    } else if (strcmp(what, "kill_worker") == 0) {
        kill_worker(line);
    } else if (strcmp(what, "shutdown") == 0) {
        bool drained = false;
        EXPECT(nearcall_shutdown(engine, number(line, "within_ms") * millisecond, &drained, NULL) == 0);
        EXPECT(drained == (number(line, "drained") != 0));
    } else if (strcmp(what, "forked_child") == 0) {
        forked_child();
    } else {
        fprintf(stderr, "no such step: %s\n", what);
        exit(1);
    }
}

int main(void) {
    error = nearcall_error_new();
    answer = nearcall_answer_new();
    task = nearcall_task_new();
    size_t cases = 0;
    read_lines();
    for (at = 0; at < line_count; at++) {
        const char *what = lines[at].fields[0];
        if (strcmp(what, "case") == 0) {
            start(&lines[at]);
            cases++;
        } else if (strcmp(what, "end") == 0) {
            end();
        } else {
            step(&lines[at]);
        }
    }
    for (size_t index = 0; index < line_count; index++) free(lines[index].text);
    nearcall_task_free(task);
    nearcall_answer_free(answer);
    nearcall_error_free(error);
    printf("%zu passed, 0 failed\n", cases);
    return 0;
}
