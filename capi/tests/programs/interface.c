/* nearcall.h with Python's workers: each kind of argument and answer, and each way to go wrong. */

#define _GNU_SOURCE
#include "check.h"
#include "nearcall.h"

#include <math.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

static const int64_t patience = 30000000000;
static nearcall_error *error;
static nearcall_answer *answer;

static const char *message(void) { return nearcall_error_message(error, NULL); }

static nearcall_builder *builder_for(const char *model, const char *method) {
    nearcall_builder *builder = nearcall_builder_new(model);
    if (method != NULL) nearcall_builder_method(builder, method);
    nearcall_builder_python_path(builder, models());
    nearcall_builder_workers(builder, 1);
    nearcall_builder_start_deadline(builder, patience);
    return builder;
}

static nearcall_engine *start(nearcall_builder *builder) {
    nearcall_engine *engine = NULL;
    int flag = nearcall_start(builder, &engine, error);
    if (flag != 0) fprintf(stderr, "%s\n", message());
    CHECK(flag == NEARCALL_FLAG_OK && engine != NULL);
    nearcall_builder_free(builder);
    return engine;
}

static nearcall_text text(const char *data) {
    nearcall_text text = {data, strlen(data)};
    return text;
}

static bool is(nearcall_text found, const char *data, size_t len) {
    return found.len == len && memcmp(found.data, data, len) == 0;
}

static void what_goes_in_comes_out(void) {
    nearcall_builder *builder = builder_for("hosts:everything", NULL);
    nearcall_builder_parameter(builder, "b", NEARCALL_TYPE_BOOL);
    nearcall_builder_parameter(builder, "i", NEARCALL_TYPE_INT);
    nearcall_builder_parameter(builder, "f", NEARCALL_TYPE_FLOAT);
    nearcall_builder_parameter(builder, "s", NEARCALL_TYPE_STR);
    nearcall_builder_parameter(builder, "bs", NEARCALL_TYPE_BOOLS);
    nearcall_builder_list(builder, "iss", NEARCALL_TYPE_INTS, 3, 3);
    nearcall_builder_list(builder, "fs", NEARCALL_TYPE_FLOATS, 1, 4);
    nearcall_builder_parameter(builder, "ss", NEARCALL_TYPE_STRS);
    nearcall_builder_parameter(builder, "v", NEARCALL_TYPE_VALUE);
    nearcall_engine *engine = start(builder);

    const bool bools[] = {true, false, true};
    const int64_t ints[] = {INT64_MIN, 0, INT64_MAX};
    const double floats[] = {-0.0, INFINITY, 0.1};
    nearcall_text strs[] = {text("a"), {NULL, 0}, {"x\0y", 3}};
    nearcall_task *task = nearcall_task_new();
    /* Twice, with the same task: its memory is used again. */
    for (int round = 0; round < 2; round++) {
        CHECK(nearcall_task_clear(task) == NEARCALL_FLAG_OK);
        nearcall_task_bool(task, true);
        nearcall_task_int(task, -7);
        nearcall_task_float(task, 2.5);
        nearcall_task_str(task, "gr\xc3\xbc\xc3\x9f", 6);
        nearcall_task_bools(task, bools, 3);
        nearcall_task_ints(task, ints, 3);
        nearcall_task_floats(task, floats, 3);
        nearcall_task_strs(task, strs, 3);
        nearcall_value *dict = nearcall_value_dict();
        const size_t shape[] = {2, 2};
        const uint16_t elements[] = {1, 2, 3, 65535};
        nearcall_value *tuple = nearcall_value_tuple();
        CHECK(nearcall_value_push(tuple, nearcall_value_none()) == NEARCALL_FLAG_OK);
        CHECK(nearcall_value_push(tuple, nearcall_value_bool(true)) == NEARCALL_FLAG_OK);
        CHECK(nearcall_value_push(tuple, nearcall_value_bytes("\xff\0", 2)) == NEARCALL_FLAG_OK);
        nearcall_value_insert(dict, "tuple", 5, tuple);
        nearcall_value_insert(
            dict, "array", 5, nearcall_value_tensor(NEARCALL_DTYPE_U16, shape, 2, elements, sizeof elements));
        nearcall_value_insert(dict, "json", 4, nearcall_value_json("[1, 2.5, \"z\", {}]", 17, error));
        nearcall_value_insert(dict, "float", 5, nearcall_value_float(0.5));
        nearcall_value_insert(dict, "str", 3, nearcall_value_str("t", 1));
        CHECK(nearcall_task_value(task, dict) == NEARCALL_FLAG_OK);
        /* The task has it as it was. */
        CHECK(nearcall_value_insert(dict, "later", 5, nearcall_value_int(1)) == NEARCALL_FLAG_OK);
        nearcall_value_free(dict);
        int flag = nearcall_call(engine, task, patience, answer, error);
        if (flag != 0) fprintf(stderr, "%s\n", message());
        CHECK(flag == NEARCALL_FLAG_OK);
    }

    bool b = false;
    int64_t i = 0;
    double f = 0;
    nearcall_text s;
    CHECK(nearcall_answer_count(answer) == 9);
    CHECK(nearcall_answer_bool(answer, 0, &b, error) == 0 && b);
    CHECK(nearcall_answer_int(answer, 1, &i, error) == 0 && i == -7);
    CHECK(nearcall_answer_float(answer, 2, &f, error) == 0 && f == 2.5);
    CHECK(nearcall_answer_str(answer, 3, &s, error) == 0 && is(s, "gr\xc3\xbc\xc3\x9f", 6));

    bool bools_out[3];
    int64_t ints_out[3];
    double floats_out[3];
    nearcall_text strs_out[3];
    size_t count = 0;
    CHECK(nearcall_answer_bools(answer, 4, bools_out, 3, &count, error) == 0 && count == 3);
    CHECK(memcmp(bools_out, bools, sizeof bools) == 0);
    CHECK(nearcall_answer_ints(answer, 5, ints_out, 3, &count, error) == 0 && count == 3);
    CHECK(memcmp(ints_out, ints, sizeof ints) == 0);
    CHECK(nearcall_answer_floats(answer, 6, floats_out, 3, &count, error) == 0 && count == 3);
    CHECK(memcmp(floats_out, floats, sizeof floats) == 0);
    CHECK(nearcall_answer_strs(answer, 7, strs_out, 3, &count, error) == 0 && count == 3);
    CHECK(is(strs_out[0], "a", 1) && is(strs_out[1], "", 0) && is(strs_out[2], "x\0y", 3));
    /* Too little room: as many as fit, and how many there are. */
    ints_out[1] = 99;
    CHECK(nearcall_answer_ints(answer, 5, ints_out, 1, &count, error) == 0 && count == 3 && ints_out[1] == 99);
    CHECK(nearcall_answer_ints(answer, 5, NULL, 0, &count, error) == 0 && count == 3);
    /* Another type. */
    CHECK(nearcall_answer_ints(answer, 6, ints_out, 3, &count, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_ANSWER);
    CHECK(nearcall_answer_int(answer, 2, &i, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_answer_int(answer, 9, &i, error) == NEARCALL_FLAG_ERROR);

    const nearcall_view *view = nearcall_answer_view(answer);
    CHECK(view == nearcall_answer_view(answer));
    CHECK(view->kind == NEARCALL_KIND_TUPLE && view->count == 9);
    CHECK(view->items[4].kind == NEARCALL_KIND_LIST && view->items[4].items[2].boolean);
    const nearcall_view *dict = &view->items[8];
    CHECK(dict->kind == NEARCALL_KIND_DICT && dict->count == 5);
    CHECK(is(dict->keys[0], "tuple", 5) && is(dict->keys[1], "array", 5) && is(dict->keys[2], "json", 4));
    CHECK(dict->items[0].kind == NEARCALL_KIND_TUPLE && dict->items[0].count == 3);
    CHECK(dict->items[0].items[0].kind == NEARCALL_KIND_NONE);
    CHECK(dict->items[0].items[2].kind == NEARCALL_KIND_BYTES && is(dict->items[0].items[2].text, "\xff\0", 2));
    CHECK(dict->items[1].kind == NEARCALL_KIND_TENSOR);
    const nearcall_tensor *tensor = dict->items[1].tensor;
    uint16_t elements_out[4];
    CHECK(tensor->dtype == NEARCALL_DTYPE_U16 && tensor->rank == 2 && tensor->shape[1] == 2);
    CHECK(tensor->bytes == sizeof elements_out);
    memcpy(elements_out, tensor->data, tensor->bytes);
    CHECK(elements_out[3] == 65535);
    const nearcall_view *json = &dict->items[2];
    CHECK(json->count == 4 && json->items[0].integer == 1 && json->items[1].number == 2.5);
    CHECK(json->items[3].kind == NEARCALL_KIND_DICT && json->items[3].count == 0);

    /* A task with an argument that is none says which, and is good again when it was cleared. */
    nearcall_task_clear(task);
    nearcall_task_str(task, "\xff", 1);
    nearcall_task_int(task, 1);
    CHECK(nearcall_call(engine, task, patience, answer, error) == NEARCALL_FLAG_MISUSE);
    CHECK(strstr(message(), "UTF-8") != NULL);
    nearcall_task_clear(task);
    nearcall_task_int(task, 1);
    CHECK(nearcall_call(engine, task, patience, answer, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_MISMATCH);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
    /* The answer needs no engine. */
    CHECK(nearcall_answer_int(answer, 1, &i, error) == 0 && i == -7);
}

static void a_task_is_used_again_and_again(void) {
    nearcall_builder *builder = builder_for("hosts:join", NULL);
    nearcall_builder_parameter(builder, "xs", NEARCALL_TYPE_STRS);
    nearcall_builder_parameter(builder, "ys", NEARCALL_TYPE_STRS);
    nearcall_builder_parameter(builder, "zs", NEARCALL_TYPE_STRS);
    nearcall_engine *engine = start(builder);
    nearcall_task *task = nearcall_task_new();
    nearcall_text many[40];
    char letters[40];
    for (size_t index = 0; index < 40; index++) {
        letters[index] = (char)('A' + index);
        many[index].data = &letters[index];
        many[index].len = 1;
    }
    for (size_t round = 0; round < 20; round++) {
        /* Three lists whose lengths change, from an array that is gone afterwards. */
        nearcall_task_clear(task);
        const size_t lengths[] = {round, 20 - round, 2 * round};
        for (size_t list = 0; list < 3; list++) {
            nearcall_text passing[40];
            memcpy(passing, many, sizeof passing);
            CHECK(nearcall_task_strs(task, passing, lengths[list]) == NEARCALL_FLAG_OK);
            memset(passing, 0, sizeof passing);
        }
        CHECK(nearcall_call(engine, task, patience, answer, error) == NEARCALL_FLAG_OK);
        /* The view is that of this answer, and not of the last. */
        const nearcall_view *view = nearcall_answer_view(answer);
        CHECK(view->kind == NEARCALL_KIND_LIST && view->count == 20 + 2 * round);
        size_t at = 0;
        for (size_t list = 0; list < 3; list++) {
            for (size_t index = 0; index < lengths[list]; index++) {
                CHECK(is(view->items[at++].text, &letters[index], 1));
            }
        }
    }
    nearcall_task_free(task);
    nearcall_engine_free(engine);
}

static nearcall_task *step(nearcall_task *task, const char *op, int64_t x) {
    nearcall_task_clear(task);
    nearcall_task_str(task, op, strlen(op));
    nearcall_task_int(task, x);
    return task;
}

static nearcall_engine *steps(size_t slots) {
    nearcall_builder *builder = builder_for("hosts:Steps", "run");
    nearcall_builder_parameter(builder, "op", NEARCALL_TYPE_STR);
    nearcall_builder_parameter(builder, "x", NEARCALL_TYPE_INT);
    nearcall_builder_slots(builder, slots);
    return start(builder);
}

static void what_goes_wrong_says_what_it_was(void) {
    nearcall_engine *engine = steps(2);
    nearcall_task *task = nearcall_task_new();
    int64_t key = 0, other = 0, third = 0, x = 0;

    CHECK(nearcall_call(engine, step(task, "raise", 7), patience, answer, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_PYTHON);
    CHECK(strcmp(nearcall_error_exception(error, NULL), "ValueError") == 0);
    CHECK(strstr(nearcall_error_traceback(error, NULL), "in run") != NULL);
    /* Python's message has a NUL inside. */
    size_t len = 0;
    const char *all = nearcall_error_message(error, &len);
    CHECK(len > strlen(all) && all[len] == '\0');
    CHECK(nearcall_call(engine, step(task, "set", 7), patience, answer, error) == NEARCALL_FLAG_REFUSED);
    CHECK(nearcall_call(engine, step(task, "die", 7), patience, answer, error) == NEARCALL_FLAG_DIED);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_DIED && strstr(message(), "SIGKILL") != NULL);
    CHECK(nearcall_call(engine, step(task, "hang", 7), 50000000, answer, error) == NEARCALL_FLAG_DEADLINE_PASSED);
    CHECK(nearcall_call(engine, step(task, "echo", 7), patience, answer, error) == NEARCALL_FLAG_OK);
    CHECK(nearcall_error_code(error) == 0 && message()[0] == '\0');
    CHECK(nearcall_answer_int(answer, 0, &x, NULL) == 0 && x == 7);

    /* Capacity. */
    CHECK(nearcall_submit(engine, step(task, "hang", 1), &key, error) == NEARCALL_FLAG_OK && key > 0);
    CHECK(nearcall_submit(engine, step(task, "echo", 2), &other, error) == NEARCALL_FLAG_OK && other > 0);
    CHECK(nearcall_submit(engine, step(task, "echo", 3), &third, error) == NEARCALL_FLAG_AGAIN && third == 0);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_FULL && strstr(message(), "2 slots") != NULL);
    CHECK(nearcall_in_use(engine) == 2 && nearcall_slots(engine) == 2 && nearcall_workers(engine) == 1);
    CHECK(nearcall_retrieve(engine, other, answer, error) == NEARCALL_FLAG_AGAIN);
    CHECK(nearcall_wait(engine, other, 1000000, answer, error) == NEARCALL_FLAG_AGAIN);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_TIMED_OUT);

    /* Cancelled while it runs; the other one goes on. */
    bool was_running = false;
    CHECK(nearcall_cancel(engine, key, &was_running) == 0 && was_running);
    CHECK(nearcall_cancel(engine, key, &was_running) == 0 && !was_running);
    CHECK(nearcall_retrieve(engine, key, answer, error) == NEARCALL_FLAG_CANCELLED);
    CHECK(nearcall_retrieve(engine, key, answer, error) == NEARCALL_FLAG_ALREADY_RETRIEVED);
    CHECK(nearcall_wait(engine, other, patience, answer, error) == NEARCALL_FLAG_OK);
    CHECK(nearcall_answer_int(answer, 0, &x, NULL) == 0 && x == 2);

    /* Keys that are none. */
    CHECK(nearcall_retrieve(engine, key + (1L << 40), answer, error) == NEARCALL_FLAG_UNKNOWN);
    CHECK(nearcall_retrieve(engine, 0, answer, error) == NEARCALL_FLAG_UNKNOWN);
    CHECK(nearcall_retrieve(engine, -1, answer, error) == NEARCALL_FLAG_UNKNOWN);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_UNKNOWN);
    CHECK(nearcall_cancel(engine, -1, &was_running) == 0 && !was_running);
    CHECK(nearcall_abandon(engine, -1) == 0);

    /* Abandoned. */
    CHECK(nearcall_submit_by(engine, step(task, "hang", 1), 100000000, &key, error) == 0);
    CHECK(nearcall_abandon(engine, key) == 0);
    CHECK(nearcall_retrieve(engine, key, answer, error) == NEARCALL_FLAG_ALREADY_RETRIEVED);

    uint32_t pids[4];
    nearcall_health_report health;
    CHECK(nearcall_call(engine, step(task, "echo", 8), patience, answer, error) == NEARCALL_FLAG_OK);
    CHECK(nearcall_worker_pids(engine, pids, 4) == 1 && pids[0] > 1);
    CHECK(nearcall_worker_pids(engine, NULL, 0) == 1);
    CHECK(nearcall_health(engine, &health, error) == 0);
    CHECK(health.takes_tasks && health.supervisor_responds && health.wanted == 1 && health.deaths >= 1);
    size_t replaced = 0;
    CHECK(nearcall_reload(engine, patience, &replaced, error) == 0 && replaced == 1);

    bool drained = false;
    size_t killed = 7;
    CHECK(nearcall_submit(engine, step(task, "echo", 9), &key, error) == 0);
    CHECK(nearcall_shutdown(engine, patience, &drained, &killed) == 0 && drained && killed == 0);
    CHECK(nearcall_retrieve(engine, key, answer, error) == 0);
    CHECK(nearcall_submit(engine, step(task, "echo", 9), &key, error) == NEARCALL_FLAG_ERROR && key == 0);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_CLOSED);
    CHECK(nearcall_shutdown(engine, 0, NULL, NULL) == 0);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
}

static void a_start_that_fails_says_why(void) {
    nearcall_engine *engine = NULL;
    nearcall_builder *builder = builder_for("hosts:Steps", "run");
    nearcall_builder_parameter(builder, "op", NEARCALL_TYPE_STR);
    nearcall_builder_parameter(builder, "x", NEARCALL_TYPE_INT);
    nearcall_builder_init_kwargs_json(builder, "{\"broken\": true}");
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_ERROR && engine == NULL);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_START);
    CHECK(strstr(nearcall_error_traceback(error, NULL), "broken on purpose") != NULL);
    CHECK(strcmp(nearcall_error_exception(error, NULL), "ValueError") == 0);
    /* The builder is as it was, and can be changed. */
    nearcall_builder_init_kwargs_json(builder, "{}");
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_OK);
    nearcall_engine_free(engine);
    nearcall_builder_free(builder);

    builder = builder_for("hosts:nothing", NULL);
    nearcall_builder_worker(builder, "/nowhere/nearcall-worker");
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_ERROR);
    CHECK(strstr(message(), "/nowhere/nearcall-worker") != NULL);
    nearcall_builder_free(builder);
}

static void reserved_arrays_are_read_where_they_were_written(void) {
    nearcall_builder *builder = builder_for("hosts:double_all", NULL);
    nearcall_builder_parameter(builder, "image", NEARCALL_TYPE_VALUE);
    nearcall_builder_parameter(builder, "out", NEARCALL_TYPE_VALUE);
    nearcall_engine *engine = start(builder);

    const size_t shape[] = {5};
    const nearcall_spec specs[] = {
        {NEARCALL_DTYPE_F64, false, shape, 1}, {NEARCALL_DTYPE_F64, true, shape, 1}};
    nearcall_reserved *reserved = NULL;
    size_t bytes = 0;
    int64_t count = 0;
    CHECK(nearcall_reserve(engine, specs, 2, &reserved, error) == NEARCALL_FLAG_OK);
    CHECK(nearcall_reserved_count(reserved) == 2 && nearcall_in_use(engine) == 1);
    double *image = nearcall_reserved_data(reserved, 0, &bytes, error);
    CHECK(image != NULL && bytes == sizeof(double[5]));
    for (int index = 0; index < 5; index++) image[index] = index;
    CHECK(nearcall_reserved_data(reserved, 1, NULL, error) == NULL);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_MISUSE && strstr(message(), "output") != NULL);
    CHECK(nearcall_reserved_data(reserved, 2, NULL, error) == NULL);
    nearcall_task *task = nearcall_task_new();
    nearcall_task_reserved(task, 0);
    nearcall_task_reserved(task, 1);
    CHECK(nearcall_reserved_call(reserved, task, patience, answer, error) == NEARCALL_FLAG_OK);
    CHECK(nearcall_answer_int(answer, 0, &count, error) == 0 && count == 5);
    CHECK(nearcall_reserved_call(reserved, task, patience, answer, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_SUBMITTED);
    CHECK(nearcall_reserved_data(reserved, 0, NULL, error) == NULL);
    nearcall_reserved_free(reserved);

    /* Freed without a task: the slot is free again. */
    CHECK(nearcall_reserve(engine, specs, 2, &reserved, error) == NEARCALL_FLAG_OK);
    nearcall_reserved_free(reserved);
    CHECK(nearcall_in_use(engine) == 0);
    const nearcall_spec odd = {99, false, shape, 1};
    CHECK(nearcall_reserve(engine, &odd, 1, &reserved, error) == NEARCALL_FLAG_MISUSE && reserved == NULL);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
}

static void an_event_loop_learns_of_the_end_of_tasks(void) {
    nearcall_engine *engine = steps(8);
    nearcall_task *task = nearcall_task_new();
    int64_t keys[3], given[2];
    int fd = -1, again = -1;
    CHECK(nearcall_completions_fd(engine, &fd, error) == 0 && fd >= 0);
    CHECK(nearcall_completions_fd(engine, &again, error) == 0 && again == fd);
    size_t told = 0;
    for (int64_t index = 0; index < 3; index++) {
        bool is_over = false;
        CHECK(nearcall_submit(engine, step(task, "echo", index), &keys[index], error) == 0);
        CHECK(nearcall_notify(engine, keys[index], &is_over, error) == 0);
        if (is_over) told++;
    }
    while (told < 3) {
        struct pollfd watched = {fd, POLLIN, 0};
        CHECK(poll(&watched, 1, 30000) == 1);
        int flag;
        do {
            size_t count = 0;
            flag = nearcall_dispatch(engine, given, 2, &count, error);
            CHECK(flag == NEARCALL_FLAG_OK || flag == NEARCALL_FLAG_AGAIN);
            told += count;
        } while (flag == NEARCALL_FLAG_AGAIN);
    }
    CHECK(told == 3);
    bool is_over = false;
    CHECK(nearcall_notify(engine, keys[0], &is_over, error) == 0 && is_over);
    for (int64_t index = 0; index < 3; index++) {
        int64_t x = -1;
        CHECK(nearcall_retrieve(engine, keys[index], answer, error) == 0);
        CHECK(nearcall_answer_int(answer, 0, &x, error) == 0 && x == index);
    }
    CHECK(nearcall_notify(engine, keys[0], &is_over, error) == NEARCALL_FLAG_ALREADY_RETRIEVED && !is_over);
    CHECK(nearcall_notify(engine, -5, &is_over, error) == NEARCALL_FLAG_UNKNOWN);

    /* More keys than there is room for: the rest comes at the next call, and none is lost. */
    for (int64_t index = 0; index < 3; index++) {
        CHECK(nearcall_submit(engine, step(task, "hang", index), &keys[index], error) == 0);
        CHECK(nearcall_notify(engine, keys[index], &is_over, error) == 0 && !is_over);
    }
    for (int64_t index = 0; index < 3; index++) CHECK(nearcall_cancel(engine, keys[index], NULL) == 0);
    size_t count = 0, sum = 0;
    while (sum < 3) {
        struct pollfd watched = {fd, POLLIN, 0};
        CHECK(poll(&watched, 1, 30000) == 1);
        do {
            again = nearcall_dispatch(engine, given, 1, &count, error);
            sum += count;
        } while (again == NEARCALL_FLAG_AGAIN);
        CHECK(again == NEARCALL_FLAG_OK);
    }
    CHECK(sum == 3);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
}

static void in_a_forked_child_every_call_is_an_error(void) {
    nearcall_engine *engine = steps(4);
    nearcall_task *task = nearcall_task_new();
    nearcall_reserved *reserved = NULL;
    const size_t shape[] = {5};
    const nearcall_spec spec = {NEARCALL_DTYPE_F64, false, shape, 1};
    int64_t key = 0, x = 0;
    int fd = -1;
    CHECK(nearcall_completions_fd(engine, &fd, error) == 0);
    CHECK(nearcall_reserve(engine, &spec, 1, &reserved, error) == 0);
    CHECK(nearcall_submit(engine, step(task, "echo", 5), &key, error) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        bool boolean = true;
        size_t count = 7;
        int64_t given = 0, none = 0;
        nearcall_health_report health;
        CHECK(nearcall_submit(engine, task, &none, error) == NEARCALL_FLAG_ERROR);
        CHECK(nearcall_error_code(error) == NEARCALL_CODE_FORKED_CHILD);
        CHECK(nearcall_call(engine, task, patience, answer, error) == NEARCALL_FLAG_ERROR);
        CHECK(nearcall_error_code(error) == NEARCALL_CODE_FORKED_CHILD);
        CHECK(nearcall_retrieve(engine, key, answer, error) == NEARCALL_FLAG_FORKED_CHILD);
        CHECK(nearcall_wait(engine, key, patience, answer, error) == NEARCALL_FLAG_FORKED_CHILD);
        CHECK(nearcall_cancel(engine, key, &boolean) == 0 && !boolean);
        CHECK(nearcall_abandon(engine, key) == 0);
        CHECK(nearcall_notify(engine, key, &boolean, error) == NEARCALL_FLAG_FORKED_CHILD);
        CHECK(nearcall_dispatch(engine, &given, 1, &count, error) == NEARCALL_FLAG_FORKED_CHILD && count == 0);
        CHECK(nearcall_health(engine, &health, error) == NEARCALL_FLAG_FORKED_CHILD);
        CHECK(nearcall_reload(engine, 1, NULL, error) == NEARCALL_FLAG_ERROR);
        CHECK(nearcall_error_code(error) == NEARCALL_CODE_FORKED_CHILD);
        CHECK(nearcall_in_use(engine) == 0 && nearcall_worker_pids(engine, NULL, 0) == 0);
        CHECK(nearcall_reserved_data(reserved, 0, NULL, error) == NULL);
        CHECK(nearcall_error_code(error) == NEARCALL_CODE_FORKED_CHILD);
        CHECK(nearcall_shutdown(engine, 0, NULL, NULL) == 0);
        nearcall_reserved_free(reserved);
        nearcall_engine_free(engine);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    nearcall_reserved_free(reserved);
    CHECK(nearcall_wait(engine, key, patience, answer, error) == 0);
    CHECK(nearcall_answer_int(answer, 0, &x, error) == 0 && x == 5);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
}

int main(void) {
    error = nearcall_error_new();
    answer = nearcall_answer_new();
    what_goes_in_comes_out();
    a_task_is_used_again_and_again();
    what_goes_wrong_says_what_it_was();
    a_start_that_fails_says_why();
    reserved_arrays_are_read_where_they_were_written();
    an_event_loop_learns_of_the_end_of_tasks();
    in_a_forked_child_every_call_is_an_error();
    nearcall_answer_free(answer);
    nearcall_error_free(error);
    return 0;
}
