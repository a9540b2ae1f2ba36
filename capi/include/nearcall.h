/* nearcall: Python models in worker processes, at close to the price of a function call.
 *
 * Made from capi/src; not to be edited. docs/host-c.md has an example that was run as it stands there.
 * nearcall.hpp is the same for C++ (docs/host-cpp.md).
 *
 * What functions return is a nearcall_flag, unless they say otherwise: 0 is done, 1 is "try again later" (the
 * engine is full, the task is not finished), 2 and up is an error. Those that take a nearcall_error say there what
 * happened, with a code (nearcall_code), a message and a traceback; each of them may be given NULL instead. What
 * functions write through a pointer is only there after 0, unless they say otherwise.
 *
 * Ownership. What a function whose name ends in _new (or a nearcall_value_..., nearcall_start, nearcall_reserve)
 * gives is the caller's, and is freed once, by the _free function of its name. Texts and arrays that are read from
 * an object belong to it. Nothing that the caller gives is kept beyond the call, with one exception: a task has
 * pointers to its lists and texts.
 *
 * Pointers. NULL in place of an object is an error (NEARCALL_FLAG_MISUSE) and no crash; in place of a result that
 * "(or NULL)" is said of, it means that nobody wants it. Any other pointer has to be good: to an object that was not
 * freed, to as many items as are said to be there, aligned as their type is.
 *
 * Threads. Engines may be used by any number of threads at once. Other objects belong to one thread at a time,
 * unless it is said of them that several may read. No function has a state of its own.
 *
 * Forks. An engine belongs to the process that started it. In a forked child of that nothing does the parent harm:
 * functions that need the engine say NEARCALL_FLAG_FORKED_CHILD, or have the code NEARCALL_CODE_FORKED_CHILD; those that
 * end something (nearcall_cancel(), nearcall_abandon(), nearcall_shutdown()) end nothing, which is no error, and
 * nearcall_engine_free() frees the child's memory alone. Do not fork while another thread is in one of these functions
 * and use its objects in the child.
 *
 * Times are nanoseconds. Texts are UTF-8: a name that a builder takes ends with a NUL, all others have a length.
 */

#ifndef NEARCALL_H
#define NEARCALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The most dimensions of an array: NEARCALL_MAX_RANK.
#define NEARCALL_MAX_RANK 32

// The type of a tensor's elements, in this machine's byte order.
typedef enum nearcall_dtype {
  // bool: one byte, 0 is false.
  NEARCALL_DTYPE_BOOL = 0,
  // int8.
  NEARCALL_DTYPE_I8 = 1,
  // int16.
  NEARCALL_DTYPE_I16 = 2,
  // int32.
  NEARCALL_DTYPE_I32 = 3,
  // int64.
  NEARCALL_DTYPE_I64 = 4,
  // uint8.
  NEARCALL_DTYPE_U8 = 5,
  // uint16.
  NEARCALL_DTYPE_U16 = 6,
  // uint32.
  NEARCALL_DTYPE_U32 = 7,
  // uint64.
  NEARCALL_DTYPE_U64 = 8,
  // float16.
  NEARCALL_DTYPE_F16 = 9,
  // float32.
  NEARCALL_DTYPE_F32 = 10,
  // float64.
  NEARCALL_DTYPE_F64 = 11,
} nearcall_dtype;

// What a value is.
typedef enum nearcall_kind {
  // None.
  NEARCALL_KIND_NONE = 0,
  // bool.
  NEARCALL_KIND_BOOL = 1,
  // int.
  NEARCALL_KIND_INT = 2,
  // float.
  NEARCALL_KIND_FLOAT = 3,
  // str.
  NEARCALL_KIND_STR = 4,
  // bytes.
  NEARCALL_KIND_BYTES = 5,
  // list.
  NEARCALL_KIND_LIST = 6,
  // tuple.
  NEARCALL_KIND_TUPLE = 7,
  // dict.
  NEARCALL_KIND_DICT = 8,
  // numpy.ndarray.
  NEARCALL_KIND_TENSOR = 9,
} nearcall_kind;

// What went wrong: the same numbers and words in every language, and from 100 on what only C can do
// wrong.
typedef enum nearcall_code {
  // Nothing.
  NEARCALL_CODE_NONE = 0,
  // All slots are taken: try again later.
  NEARCALL_CODE_FULL = 1,
  // The task does not fit the signature.
  NEARCALL_CODE_MISMATCH = 2,
  // These reserved tensors have had their task.
  NEARCALL_CODE_SUBMITTED = 3,
  // A tensor was to be reserved that cannot be one.
  NEARCALL_CODE_TENSOR = 4,
  // The task is larger than any can be.
  NEARCALL_CODE_TOO_LARGE = 5,
  // There is no shared memory left.
  NEARCALL_CODE_NO_SHARED_MEMORY = 6,
  // The system refused something.
  NEARCALL_CODE_SYSTEM = 7,
  // The engine was shut down, or has given up.
  NEARCALL_CODE_CLOSED = 8,
  // No worker can be had at the moment.
  NEARCALL_CODE_UNAVAILABLE = 9,
  // The engine is another process'.
  NEARCALL_CODE_FORKED_CHILD = 10,
  // No answer yet; the task goes on.
  NEARCALL_CODE_TIMED_OUT = 11,
  // The model raised.
  NEARCALL_CODE_PYTHON = 12,
  // The model returned what an answer cannot carry.
  NEARCALL_CODE_REFUSED = 13,
  // The worker that ran the task died.
  NEARCALL_CODE_DIED = 14,
  // The task was not done by its deadline.
  NEARCALL_CODE_DEADLINE_PASSED = 15,
  // Somebody has cancelled the task.
  NEARCALL_CODE_CANCELLED = 16,
  // A worker has written what no worker writes.
  NEARCALL_CODE_CORRUPT = 17,
  // The answer was retrieved before, or the task was abandoned.
  NEARCALL_CODE_ALREADY_RETRIEVED = 18,
  // This engine never gave that key.
  NEARCALL_CODE_UNKNOWN = 19,
  // The call itself was wrong.
  NEARCALL_CODE_MISUSE = 100,
  // The engine did not start.
  NEARCALL_CODE_START = 101,
  // The answer has something else, or nothing, at that position.
  NEARCALL_CODE_ANSWER = 102,
  // The workers were not all replaced.
  NEARCALL_CODE_RELOAD = 103,
  // The library has failed inside.
  NEARCALL_CODE_INTERNAL = 104,
} nearcall_code;

// What functions return.
typedef enum nearcall_flag {
  // Done.
  NEARCALL_FLAG_OK = 0,
  // The engine is full, or the task is not finished: try again later.
  NEARCALL_FLAG_AGAIN = 1,
  // The task was not accepted, the engine did not start, or the model raised: the error's code says
  // which.
  NEARCALL_FLAG_ERROR = 2,
  // The model returned what an answer cannot carry.
  NEARCALL_FLAG_REFUSED = 3,
  // The worker that ran the task died.
  NEARCALL_FLAG_DIED = 4,
  // The engine was closed before the task was done.
  NEARCALL_FLAG_CLOSED = 5,
  // A worker has written what no worker writes.
  NEARCALL_FLAG_CORRUPT = 6,
  // The answer was retrieved before, or the task was abandoned.
  NEARCALL_FLAG_ALREADY_RETRIEVED = 7,
  // This engine never gave that key.
  NEARCALL_FLAG_UNKNOWN = 8,
  // This process was forked from the one that started the engine, which still owns it.
  NEARCALL_FLAG_FORKED_CHILD = 9,
  // The task was not done by its deadline.
  NEARCALL_FLAG_DEADLINE_PASSED = 10,
  // Somebody has cancelled the task.
  NEARCALL_FLAG_CANCELLED = 11,
  // No worker can be had.
  NEARCALL_FLAG_UNAVAILABLE = 12,
  // The call itself was wrong: a NULL, a text that is not UTF-8, a number that means nothing.
  NEARCALL_FLAG_MISUSE = 13,
  // The library has failed inside. Nothing of the caller's was harmed; the object that was worked on
  // should be freed.
  NEARCALL_FLAG_INTERNAL = 14,
} nearcall_flag;

// How workers come to be.
typedef enum nearcall_start_method {
  // Forked, or from scratch if the model's import starts threads. The default.
  NEARCALL_START_METHOD_AUTO = 0,
  // Forked; if the import starts threads, the engine does not start.
  NEARCALL_START_METHOD_FORK = 1,
  // From scratch: each imports the model itself.
  NEARCALL_START_METHOD_SPAWN = 2,
} nearcall_start_method;

// The type of a parameter of the model.
typedef enum nearcall_type {
  // bool.
  NEARCALL_TYPE_BOOL = 0,
  // int, 64 bits.
  NEARCALL_TYPE_INT = 1,
  // float.
  NEARCALL_TYPE_FLOAT = 2,
  // str.
  NEARCALL_TYPE_STR = 3,
  // A list of bool.
  NEARCALL_TYPE_BOOLS = 4,
  // A list of int.
  NEARCALL_TYPE_INTS = 5,
  // A list of float.
  NEARCALL_TYPE_FLOATS = 6,
  // A list of str.
  NEARCALL_TYPE_STRS = 7,
  // Anything else: None, bytes, nested lists, dicts, arrays.
  NEARCALL_TYPE_VALUE = 8,
} nearcall_type;

// How threads that wait for an answer, and workers that wait for a task, pass the time.
typedef enum nearcall_wait_policy {
  // Awake for as long as it costs to sleep and be woken, then asleep. The default.
  NEARCALL_WAIT_POLICY_ADAPTIVE = 0,
  // Never asleep.
  NEARCALL_WAIT_POLICY_SPIN = 1,
  // Asleep at once.
  NEARCALL_WAIT_POLICY_PARK = 2,
} nearcall_wait_policy;

// What the model returned. The caller's; it needs no engine any more. Threads may read it at once
// (nearcall_answer_view() apart), while none fills it.
//
// What is read from it (texts, bytes, arrays, views) belongs to it, until it is given to another function that
// fills it, or freed.
//
// The functions below read the value at an index of the tuple that the model returned; if it returned no tuple,
// the whole value is at index 0. They return NEARCALL_FLAG_ERROR, with the code NEARCALL_CODE_ANSWER, if there is
// something else or nothing.
typedef struct nearcall_answer nearcall_answer;

// The settings of an engine. The caller's. Not to be used by two threads at once.
//
// Each function that sets something copies what it is given, and returns a nearcall_flag. There is no
// need to look at those: nearcall_start() reports the first setting that could not be one.
typedef struct nearcall_builder nearcall_builder;

// A model in worker processes. The caller's. Any thread may use it, at the same time as others, but for
// nearcall_engine_free().
typedef struct nearcall_engine nearcall_engine;

// What the last function that was given it had to say. The caller's: one for each thread is enough.
// Not to be used by two threads at once.
typedef struct nearcall_error nearcall_error;

// Room for a task's arrays in shared memory, where the model will see them. The caller's; the engine must outlive
// it. It has a slot until its task is submitted or it is freed. Not to be used by two threads at once.
typedef struct nearcall_reserved nearcall_reserved;

// The arguments of a call, in the order of the engine's parameters. The caller's.
//
// Lists and texts are not copied: they must stay where they are, unchanged, until the task is cleared or freed,
// or is not submitted any more. Bytes, arrays and values are copied.
//
// Threads may submit the same task at once, while none changes it.
typedef struct nearcall_task nearcall_task;

// A Python value. The caller's. What makes one copies what it is given. Not to be used by two threads at
// once while one changes it.
typedef struct nearcall_value nearcall_value;

// A text: so many bytes of UTF-8. It need not end with a NUL, and may have some inside. NULL is the empty
// text, if its length is 0.
typedef struct nearcall_text {
  // Its first byte.
  const char *data;
  // How many bytes it has.
  size_t len;
} nearcall_text;

// An array. Its elements belong to the answer it is from.
typedef struct nearcall_tensor {
  // The type of its elements.
  enum nearcall_dtype dtype;
  // How many dimensions it has.
  size_t rank;
  // The extent of each; the first rank of them.
  size_t shape[NEARCALL_MAX_RANK];
  // The elements, in C order. They start at any address: copy them (memcpy) before they are read as
  // something larger than a byte.
  const void *data;
  // How many bytes they have.
  size_t bytes;
} nearcall_tensor;

// A value of an answer. It, and all that it points to, belongs to the answer.
typedef struct nearcall_view {
  // What it is: which of the following says something.
  enum nearcall_kind kind;
  // A bool.
  bool boolean;
  // An int.
  int64_t integer;
  // A float.
  double number;
  // A str, or the bytes of a bytes. No NUL ends it.
  struct nearcall_text text;
  // How many items a list, tuple or dict has.
  size_t count;
  // The items of a list or tuple, the values of a dict; NULL if there are none.
  const struct nearcall_view *items;
  // The keys of a dict, in the order of its values; NULL if there are none.
  const struct nearcall_text *keys;
  // An array, or NULL.
  const struct nearcall_tensor *tensor;
} nearcall_view;

// How an engine is: nearcall_health().
typedef struct nearcall_health_report {
  // Every worker that there should be serves, none hangs or is stopped, and the supervisor answers.
  bool is_well;
  // Whether tasks are taken.
  bool takes_tasks;
  // The supervisor's thread has given a sign of life.
  bool supervisor_responds;
  // Workers that there should be.
  size_t wanted;
  // Worker processes that there are.
  size_t workers;
  // Those that start, or stand by.
  size_t starting;
  // Those that serve and have no task.
  size_t idle;
  // Those that run a task, the ones that hang too.
  size_t running;
  // Those that have run the same task for longer than nearcall_builder_hung_after() says.
  size_t hung;
  // Those that a signal or a debugger has stopped.
  size_t stopped;
  // Those that were replaced or have ended, and are not gone yet.
  size_t leaving;
  // Slots that hold a task, or an answer that was not retrieved.
  size_t in_use;
  // Workers that have died since the start.
  uint64_t deaths;
} nearcall_health_report;

// An array to be reserved.
typedef struct nearcall_spec {
  // The type of its elements: a nearcall_dtype.
  int32_t dtype;
  // Whether it is room for the answer: the model writes it, as in numpy's out=.
  bool is_output;
  // The extent of each dimension.
  const size_t *shape;
  // How many dimensions there are.
  size_t rank;
} nearcall_spec;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes an error object, to be given to other functions and freed with nearcall_error_free().
struct nearcall_error *nearcall_error_new(void);

// Frees an error object. NULL is nothing to free.
void nearcall_error_free(struct nearcall_error *error);

// The flag that the last function returned which was given this object: a nearcall_flag.
int nearcall_error_flag(const struct nearcall_error *error);

// What went wrong: a nearcall_code. 0: nothing.
int nearcall_error_code(const struct nearcall_error *error);

// What went wrong, for people. Ends with a NUL, and is empty if nothing did; len (or NULL) gets its
// length, because Python's messages can have a NUL inside. It is the error's, until that is given to
// another function or freed.
const char *nearcall_error_message(const struct nearcall_error *error, size_t *len);

// Python's traceback, as Python prints it: of the model's exception, or of what kept the engine from
// starting. Empty if there is none. Otherwise as nearcall_error_message().
const char *nearcall_error_traceback(const struct nearcall_error *error, size_t *len);

// The type of the exception that Python raised, as in "ValueError"; empty if it is no exception.
// Otherwise as nearcall_error_message().
const char *nearcall_error_exception(const struct nearcall_error *error, size_t *len);

// The word of a code, the same in every language: "deadline_passed". "" for a number that is none. It
// lives for ever.
const char *nearcall_code_word(int code);

// Makes a builder for a model, "module:Class" or "module:function", to be freed with
// nearcall_builder_free(). A model that cannot be one is reported by nearcall_start().
struct nearcall_builder *nearcall_builder_new(const char *model);

// Frees a builder. NULL is nothing to free. Engines that it started are not concerned.
void nearcall_builder_free(struct nearcall_builder *builder);

// The method of the class' instance to call. Default: the instance itself, or the function.
int nearcall_builder_method(struct nearcall_builder *builder, const char *method);

// Keyword arguments for the model's initialize(): a JSON object. Default: none.
int nearcall_builder_init_kwargs_json(struct nearcall_builder *builder, const char *json);

// The Python environment: a virtual environment's folder, or an interpreter. Default: $VIRTUAL_ENV, else
// python3 on $PATH.
int nearcall_builder_python(struct nearcall_builder *builder, const char *environment_or_interpreter);

// Adds a folder to search for modules, before all that Python searches by itself. The first one added is
// searched first.
int nearcall_builder_python_path(struct nearcall_builder *builder, const char *folder);

// The nearcall-worker binary. Default: $NEARCALL_WORKER, else beside this executable, else on $PATH.
int nearcall_builder_worker(struct nearcall_builder *builder, const char *binary);

// Has the interpreter of the environment itself be the worker, by the package nearcall that is installed there
// (pip install nearcall, of this library's version), instead of a nearcall-worker binary. The last one called of
// this and nearcall_builder_worker() counts.
int nearcall_builder_worker_from_python(struct nearcall_builder *builder);

// Sets an environment variable for the Python processes, which otherwise have this process'.
int nearcall_builder_env(struct nearcall_builder *builder, const char *name, const char *value);

// Whether the Python processes start without this process' environment variables. Default: no.
int nearcall_builder_clear_env(struct nearcall_builder *builder, bool clear);

// Threads that numeric libraries may use in each worker (OMP_NUM_THREADS and its kin); 0 leaves the
// variables as they are. Default: 1.
int nearcall_builder_compute_threads(struct nearcall_builder *builder, uint32_t threads);

// Declares the model's next keyword argument. type is a nearcall_type; a list may have any length.
int nearcall_builder_parameter(struct nearcall_builder *builder, const char *name, int32_t type);

// As nearcall_builder_parameter(), for a list of min to max items, both ends included. Types that are no
// lists have no use for the two.
int nearcall_builder_list(struct nearcall_builder *builder,
                          const char *name,
                          int32_t type,
                          uint32_t min,
                          uint32_t max);

// How workers come to be: a nearcall_start_method.
int nearcall_builder_start_method(struct nearcall_builder *builder, int32_t method);

// Worker processes, 1 to 1,024. Default: the CPUs available to this process.
int nearcall_builder_workers(struct nearcall_builder *builder, size_t workers);

// Tasks that the engine holds at once, waiting, running, and answered but not retrieved yet: 1 to 65,535.
// Default: 64.
int nearcall_builder_slots(struct nearcall_builder *builder, size_t slots);

// Room of a slot, in bytes: 256 to 16 MiB. Tasks and answers up to this size make no system call. Default:
// 4,096.
int nearcall_builder_slot_bytes(struct nearcall_builder *builder, size_t bytes);

// The largest task or answer, in bytes: up to 2 GiB. 0: all must fit their slots. Default: 64 MiB.
int nearcall_builder_payload_bytes(struct nearcall_builder *builder, size_t bytes);

// Whether reserved tensors of 2 MiB and more get huge pages. Default: no.
int nearcall_builder_huge_pages(struct nearcall_builder *builder, bool huge);

// How threads that wait for an answer, and workers that wait for a task, pass the time: a
// nearcall_wait_policy.
int nearcall_builder_wait_policy(struct nearcall_builder *builder, int32_t policy);

// Whether Python's garbage collector runs in the pauses between calls. Default: yes.
int nearcall_builder_collect_garbage_between_calls(struct nearcall_builder *builder, bool between_calls);

// How often a task whose worker died is done once more. Anything but 0, the default, declares that the
// model may be called several times with the same task.
int nearcall_builder_retries(struct nearcall_builder *builder, uint32_t retries);

// Interrupts a call that is past its deadline, or was cancelled, with a KeyboardInterrupt, and kills its
// worker only if the call has not ended after so long. Default: kill at once.
int nearcall_builder_interrupt(struct nearcall_builder *builder, int64_t grace_ns);

// Whether there is one worker more, ready to take over at once when another ends. Default: no.
int nearcall_builder_spare(struct nearcall_builder *builder, bool spare);

// After how long in the same task a worker is reported as one that hangs. Default: 10 s.
int nearcall_builder_hung_after(struct nearcall_builder *builder, int64_t ns);

// Replaces each worker after so many tasks, less up to a fifth by chance. Default: never.
int nearcall_builder_max_tasks(struct nearcall_builder *builder, uint64_t tasks);

// Replaces each worker that has served for so long, less up to a fifth by chance. Default: never.
int nearcall_builder_max_age(struct nearcall_builder *builder, int64_t ns);

// Replaces each worker that has so many bytes of memory resident. Default: never.
int nearcall_builder_max_rss(struct nearcall_builder *builder, uint64_t bytes);

// The most bytes of private memory that a worker can have (RLIMIT_DATA). Default: no limit but this process'
// own.
int nearcall_builder_memory_limit(struct nearcall_builder *builder, uint64_t bytes);

// The most descriptors that a worker can have open (RLIMIT_NOFILE). Default: this process' own.
int nearcall_builder_descriptor_limit(struct nearcall_builder *builder, uint64_t descriptors);

// The most CPU time that a worker can use in its life, in seconds (RLIMIT_CPU). Default: this process' own.
int nearcall_builder_cpu_limit(struct nearcall_builder *builder, uint64_t seconds);

// How long nearcall_start() may take until all workers are ready. Default: 60 s.
int nearcall_builder_start_deadline(struct nearcall_builder *builder, int64_t ns);

// Starts an engine: imports the model, forks the workers, returns once all are ready. The engine is the
// caller's, to be freed with nearcall_engine_free(); it is NULL if there is none. The builder stays as it
// is, and can start others.
//
// The error's code is NEARCALL_CODE_START, or NEARCALL_CODE_MISUSE for a setting that could not be one; its
// traceback is that of the model's import or initialize(). What was begun is ended again.
int nearcall_start(const struct nearcall_builder *builder,
                   struct nearcall_engine **engine,
                   struct nearcall_error *error);

// Frees a value. NULL is nothing to free.
void nearcall_value_free(struct nearcall_value *value);

// None. This and the functions below give a value that is the caller's, to be freed with
// nearcall_value_free() or put into another.
struct nearcall_value *nearcall_value_none(void);

// A bool.
struct nearcall_value *nearcall_value_bool(bool value);

// An int.
struct nearcall_value *nearcall_value_int(int64_t value);

// A float.
struct nearcall_value *nearcall_value_float(double value);

// A str of len bytes of UTF-8. NULL if it is none.
struct nearcall_value *nearcall_value_str(const char *data, size_t len);

// A bytes of len bytes. NULL if there are none.
struct nearcall_value *nearcall_value_bytes(const void *data, size_t len);

// An array: elements of a nearcall_dtype in C order, bytes bytes of them. NULL for a shape that does not
// have as many, or that no array has; at most 32 dimensions.
struct nearcall_value *nearcall_value_tensor(int32_t dtype,
                                             const size_t *shape,
                                             size_t rank,
                                             const void *data,
                                             size_t bytes);

// An empty list.
struct nearcall_value *nearcall_value_list(void);

// An empty tuple.
struct nearcall_value *nearcall_value_tuple(void);

// An empty dict.
struct nearcall_value *nearcall_value_dict(void);

// What a JSON text says: objects are dicts, arrays lists, numbers without fraction and exponent ints. NULL,
// and the reason in the error, if it is no JSON, has an int of more than 64 bits, or more than 64 containers
// inside each other.
struct nearcall_value *nearcall_value_json(const char *json, size_t len, struct nearcall_error *error);

// Puts an item at the end of a list or tuple. The item is used up, also if this is an error: for something
// that is neither, for NULL, and for more than 64 containers inside each other.
int nearcall_value_push(struct nearcall_value *container, struct nearcall_value *item);

// Puts a pair at the end of a dict. The item is used up, also if this is an error: for something that is no
// dict, for NULL, for a key that is not UTF-8 or there already, and for more than 64 containers inside each
// other.
int nearcall_value_insert(struct nearcall_value *dict,
                          const char *key,
                          size_t key_len,
                          struct nearcall_value *item);

// Makes a task without arguments, to be freed with nearcall_task_free().
//
// The functions that add an argument return a nearcall_flag. There is no need to look at it: a task that has
// got an argument which is none is not submitted, and the error of that says which it was.
struct nearcall_task *nearcall_task_new(void);

// Frees a task. NULL is nothing to free. What was submitted goes on.
void nearcall_task_free(struct nearcall_task *task);

// Takes all arguments away. The memory stays, for the next ones: a task that is used again and again
// allocates nothing.
int nearcall_task_clear(struct nearcall_task *task);

// Adds a bool.
int nearcall_task_bool(struct nearcall_task *task, bool value);

// Adds an int.
int nearcall_task_int(struct nearcall_task *task, int64_t value);

// Adds a float.
int nearcall_task_float(struct nearcall_task *task, double value);

// Adds a str of len bytes of UTF-8. Not copied.
int nearcall_task_str(struct nearcall_task *task, const char *data, size_t len);

// Adds a list of bool. Not copied.
int nearcall_task_bools(struct nearcall_task *task, const bool *items, size_t count);

// Adds a list of int. Not copied.
int nearcall_task_ints(struct nearcall_task *task, const int64_t *items, size_t count);

// Adds a list of float. Not copied.
int nearcall_task_floats(struct nearcall_task *task, const double *items, size_t count);

// Adds a list of str. The texts are not copied; the array of them is, and can go.
int nearcall_task_strs(struct nearcall_task *task, const struct nearcall_text *items, size_t count);

// Adds a bytes, for a parameter of the type NEARCALL_TYPE_VALUE. Copied.
int nearcall_task_bytes(struct nearcall_task *task, const void *data, size_t len);

// Adds an array, for a parameter of the type NEARCALL_TYPE_VALUE: elements of a nearcall_dtype in C order.
// Copied; nearcall_reserve() is the way without a copy.
int nearcall_task_tensor(struct nearcall_task *task,
                         int32_t dtype,
                         const size_t *shape,
                         size_t rank,
                         const void *data,
                         size_t bytes);

// Adds a value of any type, for a parameter of the type NEARCALL_TYPE_VALUE. The task has it as it is now; the
// caller can free or change it.
int nearcall_task_value(struct nearcall_task *task,
                        const struct nearcall_value *value);

// Adds the tensor of this number of those that were reserved (nearcall_reserve()), for a parameter of the type
// NEARCALL_TYPE_VALUE. Such a task goes through nearcall_reserved_submit() or nearcall_reserved_call().
int nearcall_task_reserved(struct nearcall_task *task,
                           size_t index);

// Makes an answer, to be filled by other functions and freed with nearcall_answer_free(). Until then it is None.
struct nearcall_answer *nearcall_answer_new(void);

// Frees an answer. NULL is nothing to free.
void nearcall_answer_free(struct nearcall_answer *answer);

// How many values there are: the items of a tuple, else 1. 0 for NULL.
size_t nearcall_answer_count(const struct nearcall_answer *answer);

// What is at an index: a nearcall_kind; -1 if nothing is there, or for NULL.
int nearcall_answer_kind(const struct nearcall_answer *answer, size_t index);

// Reads a bool.
int nearcall_answer_bool(const struct nearcall_answer *answer,
                         size_t index,
                         bool *value,
                         struct nearcall_error *error);

// Reads an int.
int nearcall_answer_int(const struct nearcall_answer *answer,
                        size_t index,
                        int64_t *value,
                        struct nearcall_error *error);

// Reads a float.
int nearcall_answer_float(const struct nearcall_answer *answer,
                          size_t index,
                          double *value,
                          struct nearcall_error *error);

// Reads a str: UTF-8, which no NUL ends.
int nearcall_answer_str(const struct nearcall_answer *answer,
                        size_t index,
                        struct nearcall_text *value,
                        struct nearcall_error *error);

// Reads a bytes.
int nearcall_answer_bytes(const struct nearcall_answer *answer,
                          size_t index,
                          struct nearcall_text *value,
                          struct nearcall_error *error);

// Reads an array.
int nearcall_answer_tensor(const struct nearcall_answer *answer,
                           size_t index,
                           struct nearcall_tensor *value,
                           struct nearcall_error *error);

// Copies a list of bool: writes as many as there is room for. count gets how many there are.
int nearcall_answer_bools(const struct nearcall_answer *answer,
                          size_t index,
                          bool *items,
                          size_t room,
                          size_t *count,
                          struct nearcall_error *error);

// Copies a list of int: writes as many as there is room for. count gets how many there are.
int nearcall_answer_ints(const struct nearcall_answer *answer,
                         size_t index,
                         int64_t *items,
                         size_t room,
                         size_t *count,
                         struct nearcall_error *error);

// Copies a list of float: writes as many as there is room for. count gets how many there are.
int nearcall_answer_floats(const struct nearcall_answer *answer,
                           size_t index,
                           double *items,
                           size_t room,
                           size_t *count,
                           struct nearcall_error *error);

// Copies a list of str: writes as many as there is room for; the texts themselves are the answer's. count
// gets how many there are.
int nearcall_answer_strs(const struct nearcall_answer *answer,
                         size_t index,
                         struct nearcall_text *items,
                         size_t room,
                         size_t *count,
                         struct nearcall_error *error);

// The whole answer as plain structures, whatever is in it. NULL for NULL.
const struct nearcall_view *nearcall_answer_view(struct nearcall_answer *answer);

// The version of this library, as in "0.1.0". It lives for ever.
const char *nearcall_version(void);

// Frees an engine, and ends it: running tasks get 0.3 s, then the workers are killed. Call
// nearcall_shutdown() first to let them finish. No other thread may use the engine any more. NULL is nothing to
// free. In a forked child this ends nothing of the parent's.
void nearcall_engine_free(struct nearcall_engine *engine);

// Accepts a task, and gives its key: a positive number. Never waits. NEARCALL_FLAG_AGAIN when all slots are
// taken: try again later.
//
// The task is the caller's to retrieve, wait for, cancel or abandon: until then it has a slot. key is 0 if
// the task was not accepted.
int nearcall_submit(const struct nearcall_engine *engine,
                    const struct nearcall_task *task,
                    int64_t *key,
                    struct nearcall_error *error);

// Accepts a task that has to be done within so many nanoseconds; negative: whenever. If it is not, it ends with
// NEARCALL_FLAG_DEADLINE_PASSED, whether somebody waits for it or not, and the worker that runs it is replaced.
// Otherwise as nearcall_submit().
int nearcall_submit_by(const struct nearcall_engine *engine,
                       const struct nearcall_task *task,
                       int64_t timeout_ns,
                       int64_t *key,
                       struct nearcall_error *error);

// Takes the answer of a task, if it is done; NEARCALL_FLAG_AGAIN while it is not. Never waits.
//
// An answer can be taken once. Any flag but NEARCALL_FLAG_AGAIN and NEARCALL_FLAG_FORKED_CHILD ends the task, and
// its key. The memory of answer is used again; what was read from it before is gone.
int nearcall_retrieve(const struct nearcall_engine *engine,
                      int64_t key,
                      struct nearcall_answer *answer,
                      struct nearcall_error *error);

// Waits for the answer of a task, for at most so many nanoseconds; negative: for as long as it takes.
// NEARCALL_FLAG_AGAIN if it has not come by then: the task goes on, and its key stays good. Otherwise as
// nearcall_retrieve().
int nearcall_wait(const struct nearcall_engine *engine,
                  int64_t key,
                  int64_t timeout_ns,
                  struct nearcall_answer *answer,
                  struct nearcall_error *error);

// Submits a task and waits for its answer. After so many nanoseconds the task is ended, with
// NEARCALL_FLAG_DEADLINE_PASSED; negative: never. With a task and an answer that are used again it allocates
// nothing.
int nearcall_call(const struct nearcall_engine *engine,
                  const struct nearcall_task *task,
                  int64_t timeout_ns,
                  struct nearcall_answer *answer,
                  struct nearcall_error *error);

// Ends a task that is not done yet: NEARCALL_FLAG_CANCELLED is there to be retrieved at once. was_running (or
// NULL) gets false if the task was over before, or this engine has no such task.
int nearcall_cancel(const struct nearcall_engine *engine,
                    int64_t key,
                    bool *was_running);

// Ends a task as nearcall_cancel() does, but only if no worker has begun it: none is interrupted or killed.
// was_waiting (or NULL) gets false if a worker has it, it was over before, or this engine has no such task.
int nearcall_cancel_waiting(const struct nearcall_engine *engine, int64_t key, bool *was_waiting);

// Gives up a task whose answer nobody wants any more: its slot is free as soon as no worker has it. One that
// runs, runs to its end. A key that is none, or used up, is nothing to give up.
int nearcall_abandon(const struct nearcall_engine *engine, int64_t key);

// Ends an engine: it takes no more tasks, and waits for those accepted, for at most so many nanoseconds
// (negative: for as long as it takes); then running ones get 0.3 s, then their workers are killed. Answers stay
// to be retrieved. drained (or NULL) gets whether all were done in time, killed (or NULL) how many workers
// had to be killed. A second time it returns at once, or waits for the first.
int nearcall_shutdown(const struct nearcall_engine *engine,
                      int64_t timeout_ns,
                      bool *drained,
                      size_t *killed);

// Replaces all workers by such that have the model's code as it is now on disk, and waits for that, for at most
// so many nanoseconds. No task fails, and none waits for longer than the one at hand. workers (or NULL) gets
// how many were replaced.
int nearcall_reload(const struct nearcall_engine *engine,
                    int64_t timeout_ns,
                    size_t *workers,
                    struct nearcall_error *error);

// Slots that hold a task, or an answer that was not retrieved. 0 for NULL, and in a forked child.
size_t nearcall_in_use(const struct nearcall_engine *engine);

// How many tasks the engine holds at once. 0 for NULL.
size_t nearcall_slots(const struct nearcall_engine *engine);

// How many workers the engine has when it is whole. 0 for NULL.
size_t nearcall_workers(const struct nearcall_engine *engine);

// The process ids of the workers that serve at this moment: writes as many as there is room for, and returns how
// many there are. 0 for NULL, and in a forked child.
size_t nearcall_worker_pids(const struct nearcall_engine *engine,
                            uint32_t *pids,
                            size_t room);

// How the engine is. Takes some 0.1 ms, at most 0.2 s. In a forked child: NEARCALL_FLAG_FORKED_CHILD.
int nearcall_health(const struct nearcall_engine *engine,
                    struct nearcall_health_report *health,
                    struct nearcall_error *error);

// The descriptor that becomes readable when a task is over that nearcall_notify() was asked for, and stays so until
// nearcall_dispatch() is called. It may become so for nothing. For poll() and epoll only: nobody else may read from
// it or close it. It is the same each time, and lives as long as the engine.
// In a forked child it is of no use, as nearcall_dispatch() says there.
int nearcall_completions_fd(const struct nearcall_engine *engine,
                            int *fd,
                            struct nearcall_error *error);

// Has the key of a task be given by nearcall_dispatch() once the task is over, once. is_over gets true if it is
// over already: then it will not be given. A key that is used up, or was never given, is an error.
int nearcall_notify(const struct nearcall_engine *engine,
                    int64_t key,
                    bool *is_over,
                    struct nearcall_error *error);

// Gives the keys of tasks that are over, as many as there is room for; count gets how many. They are to be
// retrieved; some may have been retrieved or abandoned meanwhile. NEARCALL_FLAG_AGAIN: there are more, which the
// descriptor will not tell of: call again. Never waits. In a forked child: NEARCALL_FLAG_FORKED_CHILD.
int nearcall_dispatch(const struct nearcall_engine *engine,
                      int64_t *keys,
                      size_t room,
                      size_t *count,
                      struct nearcall_error *error);

// Reserves room for a task's arrays. NEARCALL_FLAG_AGAIN when all slots are taken. reserved is NULL if there is
// none.
int nearcall_reserve(const struct nearcall_engine *engine,
                     const struct nearcall_spec *tensors,
                     size_t count,
                     struct nearcall_reserved **reserved,
                     struct nearcall_error *error);

// Frees it, and its slot if no task was submitted with it. NULL is nothing to free.
void nearcall_reserved_free(struct nearcall_reserved *reserved);

// The memory of the array with this number, to be written to until the task is submitted: bytes (or NULL) gets
// how many there are. It starts at a multiple of 64. What was never written is zeros, or what an earlier task has
// left. NULL, and the reason in the error: for an output, after the submit, and where there is no such array.
//
// The model sees it read-only; only a worker that means harm could change it.
void *nearcall_reserved_data(struct nearcall_reserved *reserved,
                             size_t index,
                             size_t *bytes,
                             struct nearcall_error *error);

// How many arrays were reserved. 0 for NULL.
size_t nearcall_reserved_count(const struct nearcall_reserved *reserved);

// Submits the task that these arrays are for, as nearcall_submit_by() does. After an error what was written is
// there for another try.
int nearcall_reserved_submit(struct nearcall_reserved *reserved,
                             const struct nearcall_task *task,
                             int64_t timeout_ns,
                             int64_t *key,
                             struct nearcall_error *error);

// Submits the task that these arrays are for and waits for its answer, as nearcall_call() does.
int nearcall_reserved_call(struct nearcall_reserved *reserved,
                           const struct nearcall_task *task,
                           int64_t timeout_ns,
                           struct nearcall_answer *answer,
                           struct nearcall_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEARCALL_H */
