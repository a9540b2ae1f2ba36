/* Serves python/models/big_model.py from two worker processes and calls it once. */

#include <nearcall.h>

#include <stdio.h>

int main(int argc, char **argv) {
    nearcall_error *error = nearcall_error_new();
    nearcall_builder *builder = nearcall_builder_new("big_model:Engine"); /* module:Class, or module:function */
    nearcall_builder_method(builder, "run_big_model");
    nearcall_builder_python_path(builder, argc > 1 ? argv[1] : "python/models");
    nearcall_builder_list(builder, "float_features", NEARCALL_TYPE_FLOATS, 3, 3);
    nearcall_builder_list(builder, "str_features", NEARCALL_TYPE_STRS, 2, 2);
    nearcall_builder_parameter(builder, "int_feature", NEARCALL_TYPE_INT);
    nearcall_builder_workers(builder, 2);

    nearcall_engine *engine = NULL;
    int flag = nearcall_start(builder, &engine, error); /* a failed import comes with Python's traceback */
    nearcall_builder_free(builder);
    if (flag != NEARCALL_FLAG_OK) {
        fprintf(stderr, "%s\n", nearcall_error_message(error, NULL));
        nearcall_error_free(error);
        return 1;
    }

    /* A task has pointers to these: they stay until it was submitted. */
    const double floats[] = {1.1, 11.2, 0.3};
    const nearcall_text strs[] = {{"abc", 3}, {"cdavfdv", 7}};
    nearcall_task *task = nearcall_task_new();
    nearcall_task_floats(task, floats, 3);
    nearcall_task_strs(task, strs, 2);
    nearcall_task_int(task, 27);

    /* From any thread. NEARCALL_FLAG_AGAIN means: full, try again later. */
    int64_t key = 0;
    flag = nearcall_submit(engine, task, &key, error);

    nearcall_answer *answer = nearcall_answer_new();
    int64_t value = 0;
    const int64_t one_second = 1000000000;
    if (flag == NEARCALL_FLAG_OK) flag = nearcall_wait(engine, key, one_second, answer, error);
    if (flag == NEARCALL_FLAG_OK) flag = nearcall_answer_int(answer, 0, &value, error);
    if (flag == NEARCALL_FLAG_OK) {
        printf("%lld\n", (long long)value); /* 49 */
    } else {
        fprintf(stderr, "%s: %s\n", nearcall_code_word(nearcall_error_code(error)),
                nearcall_error_message(error, NULL));
    }

    nearcall_answer_free(answer);
    nearcall_task_free(task);
    nearcall_engine_free(engine);
    nearcall_error_free(error);
    return flag;
}
