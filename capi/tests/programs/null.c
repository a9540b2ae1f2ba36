/* Every function of the header, with NULL wherever it takes a pointer: an error, never a crash. (tests/header.rs
 * holds the header against this file.) And what can be done wrong without an engine. */

#include "check.h"
#include "nearcall.h"

static void with_null(void) {
    int64_t key = 7;
    size_t size = 7;
    bool boolean = true;

    nearcall_error_free(NULL);
    CHECK(nearcall_error_flag(NULL) == 0);
    CHECK(nearcall_error_code(NULL) == NEARCALL_CODE_NONE);
    CHECK(nearcall_error_message(NULL, NULL)[0] == '\0');
    CHECK(nearcall_error_traceback(NULL, &size)[0] == '\0' && size == 0);
    CHECK(nearcall_error_exception(NULL, NULL)[0] == '\0');
    CHECK(strcmp(nearcall_code_word(NEARCALL_CODE_DEADLINE_PASSED), "deadline_passed") == 0);
    CHECK(nearcall_version()[0] != '\0');

    nearcall_builder *nothing = nearcall_builder_new(NULL);
    CHECK(nothing != NULL);
    CHECK(nearcall_start(nothing, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    nearcall_builder_free(nothing);
    nearcall_builder_free(NULL);
    CHECK(nearcall_builder_method(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_init_kwargs_json(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_python(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_python_path(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_worker(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_env(NULL, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_clear_env(NULL, true) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_compute_threads(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_parameter(NULL, NULL, 0) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_list(NULL, NULL, 0, 0, 0) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_start_method(NULL, 0) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_workers(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_slots(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_slot_bytes(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_payload_bytes(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_huge_pages(NULL, true) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_wait_policy(NULL, 0) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_collect_garbage_between_calls(NULL, true) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_retries(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_interrupt(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_spare(NULL, true) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_hung_after(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_max_tasks(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_max_age(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_max_rss(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_memory_limit(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_descriptor_limit(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_cpu_limit(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_builder_start_deadline(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_start(NULL, NULL, NULL) == NEARCALL_FLAG_MISUSE);

    nearcall_value_free(NULL);
    CHECK(nearcall_value_str(NULL, 1) == NULL);
    CHECK(nearcall_value_bytes(NULL, 1) == NULL);
    CHECK(nearcall_value_tensor(NEARCALL_DTYPE_F32, NULL, 1, NULL, 4) == NULL);
    CHECK(nearcall_value_json(NULL, 1, NULL) == NULL);
    CHECK(nearcall_value_push(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_push(NULL, nearcall_value_none()) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_insert(NULL, NULL, 0, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_insert(NULL, NULL, 0, nearcall_value_int(1)) == NEARCALL_FLAG_MISUSE);

    nearcall_task_free(NULL);
    CHECK(nearcall_task_clear(NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_bool(NULL, true) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_int(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_float(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_str(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_bools(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_ints(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_floats(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_strs(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_bytes(NULL, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_tensor(NULL, 0, NULL, 1, NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_value(NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_task_reserved(NULL, 0) == NEARCALL_FLAG_MISUSE);

    nearcall_engine_free(NULL);
    CHECK(nearcall_submit(NULL, NULL, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_submit(NULL, NULL, &key, NULL) == NEARCALL_FLAG_MISUSE && key == 0);
    CHECK(nearcall_submit_by(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_retrieve(NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_wait(NULL, 1, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_call(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_cancel(NULL, 1, &boolean) == NEARCALL_FLAG_MISUSE && !boolean);
    CHECK(nearcall_abandon(NULL, 1) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_shutdown(NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_reload(NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_in_use(NULL) == 0);
    CHECK(nearcall_slots(NULL) == 0);
    CHECK(nearcall_workers(NULL) == 0);
    CHECK(nearcall_worker_pids(NULL, NULL, 1) == 0);
    CHECK(nearcall_health(NULL, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_completions_fd(NULL, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_notify(NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_dispatch(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);

    nearcall_reserved_free(NULL);
    CHECK(nearcall_reserve(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_reserved_data(NULL, 0, NULL, NULL) == NULL);
    CHECK(nearcall_reserved_count(NULL) == 0);
    CHECK(nearcall_reserved_submit(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_reserved_call(NULL, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);

    nearcall_answer_free(NULL);
    CHECK(nearcall_answer_count(NULL) == 0);
    CHECK(nearcall_answer_kind(NULL, 0) == -1);
    CHECK(nearcall_answer_bool(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_int(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_float(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_str(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_bytes(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_tensor(NULL, 0, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_bools(NULL, 0, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_ints(NULL, 0, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_floats(NULL, 0, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_strs(NULL, 0, NULL, 1, NULL, NULL) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_view(NULL) == NULL);
}

static void an_answer_that_was_never_filled_is_none(void) {
    nearcall_answer *answer = nearcall_answer_new();
    nearcall_error *error = nearcall_error_new();
    int64_t value = 0;
    CHECK(nearcall_answer_count(answer) == 1);
    CHECK(nearcall_answer_kind(answer, 0) == NEARCALL_KIND_NONE);
    CHECK(nearcall_answer_kind(answer, 1) == -1);
    CHECK(nearcall_answer_int(answer, 0, &value, error) == NEARCALL_FLAG_ERROR);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_ANSWER);
    CHECK(strstr(nearcall_error_message(error, NULL), "NoneType") != NULL);
    CHECK(nearcall_answer_int(answer, 0, NULL, error) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_answer_view(answer)->kind == NEARCALL_KIND_NONE);
    nearcall_answer_free(answer);
    nearcall_error_free(error);
}

static void what_is_no_value_is_none(void) {
    nearcall_error *error = nearcall_error_new();
    const size_t shape[] = {2, 3};
    const float elements[6] = {0};
    CHECK(nearcall_value_str("\xff", 1) == NULL);
    CHECK(nearcall_value_tensor(99, shape, 2, elements, sizeof elements) == NULL);
    CHECK(nearcall_value_tensor(NEARCALL_DTYPE_F32, shape, 2, elements, 4) == NULL);
    CHECK(nearcall_value_tensor(NEARCALL_DTYPE_F32, shape, 33, elements, 4) == NULL);
    CHECK(nearcall_value_json("{", 1, error) == NULL);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_MISUSE);

    nearcall_value *dict = nearcall_value_dict();
    CHECK(nearcall_value_insert(dict, "a", 1, nearcall_value_int(1)) == NEARCALL_FLAG_OK);
    CHECK(nearcall_value_insert(dict, "a", 1, nearcall_value_int(2)) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_insert(dict, "\xff", 1, nearcall_value_int(2)) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_push(dict, nearcall_value_int(2)) == NEARCALL_FLAG_MISUSE);
    CHECK(nearcall_value_push(dict, NULL) == NEARCALL_FLAG_MISUSE);
    nearcall_value_free(dict);

    /* As deep as it goes, and no deeper. */
    nearcall_value *deep = nearcall_value_list();
    for (int depth = 1; depth < 64; depth++) {
        nearcall_value *outer = nearcall_value_list();
        CHECK(nearcall_value_push(outer, deep) == NEARCALL_FLAG_OK);
        deep = outer;
    }
    nearcall_value *outer = nearcall_value_tuple();
    CHECK(nearcall_value_push(outer, deep) == NEARCALL_FLAG_MISUSE);
    nearcall_value_free(outer);

    /* JSON as deep as that can be put into nothing more. */
    char json[201];
    memset(json, '[', 100);
    memset(json + 100, ']', 100);
    CHECK(nearcall_value_json(json, 200, error) == NULL);
    nearcall_value *most = nearcall_value_json(json + 36, 128, error);
    CHECK(most != NULL);
    outer = nearcall_value_list();
    CHECK(nearcall_value_push(outer, most) == NEARCALL_FLAG_MISUSE);
    nearcall_value_free(outer);
    nearcall_error_free(error);
}

static void a_setting_that_cannot_be_is_reported_by_start(void) {
    nearcall_error *error = nearcall_error_new();
    nearcall_engine *engine = (nearcall_engine *)1;

    nearcall_builder *builder = nearcall_builder_new("a:b");
    nearcall_builder_parameter(builder, "x", 9);
    nearcall_builder_wait_policy(builder, -1);
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_MISUSE && engine == NULL);
    CHECK(strstr(nearcall_error_message(error, NULL), "nearcall_type") != NULL);
    nearcall_builder_free(builder);

    builder = nearcall_builder_new("no colon");
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_ERROR && engine == NULL);
    CHECK(nearcall_error_code(error) == NEARCALL_CODE_START);
    CHECK(nearcall_error_flag(error) == NEARCALL_FLAG_ERROR);
    CHECK(strstr(nearcall_error_message(error, NULL), "no colon") != NULL);
    nearcall_builder_free(builder);

    builder = nearcall_builder_new("a:\xff");
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_MISUSE);
    nearcall_builder_free(builder);

    builder = nearcall_builder_new("a:b");
    nearcall_builder_interrupt(builder, -1);
    CHECK(nearcall_start(builder, &engine, error) == NEARCALL_FLAG_MISUSE);
    nearcall_builder_free(builder);
    nearcall_error_free(error);
}

int main(void) {
    with_null();
    an_answer_that_was_never_filled_is_none();
    what_is_no_value_is_none();
    a_setting_that_cannot_be_is_reported_by_start();
    return 0;
}
