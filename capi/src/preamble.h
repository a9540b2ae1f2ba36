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
