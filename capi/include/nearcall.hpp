// nearcall for C++: RAII and errors as values over nearcall.h. Header-only, C++17 and later.
//
//     nearcall::Builder builder("big_model:Engine");
//     builder.method("run_big_model").add_floats("float_features", 3).add_int("int_feature");
//     nearcall::Result<nearcall::Engine> engine = builder.start();
//
// Nothing here throws but for lack of memory (std::bad_alloc) and where a Result without a value is asked for one. A
// Result is std::expected where the standard library has it, otherwise a small type with the same names; spans are
// std::span from C++20 on. What the rules of nearcall.h say of ownership, threads and forks holds here:
//
// - An Engine may be used by any number of threads at once; destroy it when none does, and after all of its Tickets
//   and Reserved. Other objects belong to one thread at a time.
// - A Task refers to the lists and texts that it was given: they must outlive it, or the next clear(). Temporary
//   strings, vectors and arrays do not compile.
// - What is read from an Answer (string_views, views, tensors) lives until the answer is filled again or destroyed.

#ifndef NEARCALL_HPP
#define NEARCALL_HPP

#include "nearcall.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif
#if defined(__cpp_lib_expected)
#include <expected>
#endif

namespace nearcall {

// The types below depend on the standard; the name of this namespace does too, so that parts of a program that were
// compiled for different ones do not meet as if they were the same.
#if defined(__cpp_lib_expected)
inline namespace with_expected {
#elif defined(__cpp_lib_span)
inline namespace with_span {
#else
inline namespace plain {
#endif

#if defined(__cpp_lib_span)
template <class T>
using span = std::span<T>;
#else
// As much of std::span as is needed: a pointer and a length.
template <class T>
class span {
public:
    constexpr span() noexcept = default;
    constexpr span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <std::size_t N>
    constexpr span(T (&items)[N]) noexcept : data_(items), size_(N) {}
    // Of a vector, an array, a string: whatever has its items in a row.
    template <
        class Container,
        class Item = std::remove_pointer_t<decltype(std::declval<Container&>().data())>,
        class = std::enable_if_t<std::is_convertible_v<Item (*)[], T (*)[]>>>
    constexpr span(Container& items) noexcept : data_(items.data()), size_(items.size()) {}
    template <
        class Container,
        class Item = std::remove_pointer_t<decltype(std::declval<const Container&>().data())>,
        class = std::enable_if_t<std::is_convertible_v<Item (*)[], T (*)[]>>>
    constexpr span(const Container& items) noexcept : data_(items.data()), size_(items.size()) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T* begin() const noexcept { return data_; }
    constexpr T* end() const noexcept { return data_ + size_; }
    constexpr T& operator[](std::size_t index) const { return data_[index]; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

// What went wrong.
class Error {
public:
    Error(int flag, int code, std::string message, std::string traceback, std::string exception)
        : flag_(flag),
          code_(code),
          message_(std::move(message)),
          traceback_(std::move(traceback)),
          exception_(std::move(exception)) {}

    // The seed's number: 1 is "try again later".
    int flag() const noexcept { return flag_; }
    // What it is, as in every language.
    nearcall_code code() const noexcept { return static_cast<nearcall_code>(code_); }
    // Its word: "deadline_passed".
    std::string_view word() const noexcept { return nearcall_code_word(code_); }
    // For people.
    const std::string& message() const noexcept { return message_; }
    // Python's, if the model raised or could not be started; otherwise empty.
    const std::string& traceback() const noexcept { return traceback_; }
    // The type that Python raised, as in "ValueError"; otherwise empty.
    const std::string& exception() const noexcept { return exception_; }
    // Whether the same may work later: the engine is full, the task is not finished.
    bool is_temporary() const noexcept { return flag_ == NEARCALL_FLAG_AGAIN; }

private:
    int flag_;
    int code_;
    std::string message_;
    std::string traceback_;
    std::string exception_;
};

#if defined(__cpp_lib_expected)
// A value, or why there is none.
template <class T>
using Result = std::expected<T, Error>;
#else
// What a Result without a value throws when it is asked for one.
class BadResult : public std::runtime_error {
public:
    explicit BadResult(const Error& error) : std::runtime_error(error.message()) {}
};

// A value, or why there is none: the part of std::expected that is used most.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }
    T& value() & { return check(), *std::get_if<0>(&state_); }
    const T& value() const& { return check(), *std::get_if<0>(&state_); }
    T&& value() && { return check(), std::move(*std::get_if<0>(&state_)); }
    T& operator*() & noexcept { return *std::get_if<0>(&state_); }
    const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
    T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
    T* operator->() noexcept { return std::get_if<0>(&state_); }
    const T* operator->() const noexcept { return std::get_if<0>(&state_); }
    const Error& error() const noexcept { return *std::get_if<1>(&state_); }
    template <class U>
    T value_or(U&& instead) const& {
        return has_value() ? **this : static_cast<T>(std::forward<U>(instead));
    }
    template <class U>
    T value_or(U&& instead) && {
        return has_value() ? std::move(**this) : static_cast<T>(std::forward<U>(instead));
    }

private:
    void check() const {
        if (!has_value()) throw BadResult(error());
    }

    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() noexcept = default;
    Result(Error error) : error_(std::move(error)) {}

    bool has_value() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const {
        if (error_) throw BadResult(*error_);
    }
    const Error& error() const noexcept { return *error_; }

private:
    std::optional<Error> error_;
};
#endif

namespace detail {

template <class T>
T* made(T* handle) {
    if (handle == nullptr) throw std::bad_alloc();
    return handle;
}

struct Free {
    void operator()(nearcall_answer* it) const noexcept { nearcall_answer_free(it); }
    void operator()(nearcall_builder* it) const noexcept { nearcall_builder_free(it); }
    void operator()(nearcall_engine* it) const noexcept { nearcall_engine_free(it); }
    void operator()(nearcall_error* it) const noexcept { nearcall_error_free(it); }
    void operator()(nearcall_reserved* it) const noexcept { nearcall_reserved_free(it); }
    void operator()(nearcall_task* it) const noexcept { nearcall_task_free(it); }
    void operator()(nearcall_value* it) const noexcept { nearcall_value_free(it); }
};

template <class T>
using Handle = std::unique_ptr<T, Free>;

// One for each thread: a call that goes well makes no error object.
inline nearcall_error* error_of_this_thread() {
    static thread_local const Handle<nearcall_error> error(made(nearcall_error_new()));
    return error.get();
}

inline Error last_error() {
    const nearcall_error* error = error_of_this_thread();
    const auto text = [error](const char* (*get)(const nearcall_error*, std::size_t*)) {
        std::size_t len = 0;
        const char* data = get(error, &len);
        return std::string(data, len);
    };
    return Error(
        nearcall_error_flag(error), nearcall_error_code(error), text(nearcall_error_message),
        text(nearcall_error_traceback), text(nearcall_error_exception));
}

inline Error misuse(const char* message) {
    return Error(NEARCALL_FLAG_MISUSE, NEARCALL_CODE_MISUSE, message, std::string(), std::string());
}

#if defined(__cpp_lib_expected)
inline std::unexpected<Error> failed(Error error = last_error()) {
    return std::unexpected<Error>(std::move(error));
}
#else
inline Error failed(Error error = last_error()) { return error; }
#endif

inline Result<void> done(int flag) {
    if (flag == NEARCALL_FLAG_OK) return Result<void>();
    return failed();
}

inline std::string_view view(const nearcall_text& text) noexcept {
    return text.len == 0 ? std::string_view() : std::string_view(text.data, text.len);
}

// The element types that have a name in a tensor.
template <class T>
struct Dtype;
template <> struct Dtype<bool> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_BOOL; };
template <> struct Dtype<std::int8_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_I8; };
template <> struct Dtype<std::int16_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_I16; };
template <> struct Dtype<std::int32_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_I32; };
template <> struct Dtype<std::int64_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_I64; };
template <> struct Dtype<std::uint8_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_U8; };
template <> struct Dtype<std::uint16_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_U16; };
template <> struct Dtype<std::uint32_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_U32; };
template <> struct Dtype<std::uint64_t> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_U64; };
template <> struct Dtype<float> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_F32; };
template <> struct Dtype<double> { static constexpr nearcall_dtype value = NEARCALL_DTYPE_F64; };

}  // namespace detail

// The nearcall_dtype of a type.
template <class T>
inline constexpr nearcall_dtype dtype_of = detail::Dtype<std::remove_cv_t<T>>::value;

// Until when: a duration from now, a point of the steady clock, or never. A negative duration has passed.
class Deadline {
public:
    template <class Rep, class Period>
    Deadline(std::chrono::duration<Rep, Period> duration) {
        // Compared as floats: what is longer than 64 bits of nanoseconds never comes.
        const std::chrono::duration<double, std::nano> length = duration;
        if (length.count() >= static_cast<double>(std::numeric_limits<std::int64_t>::max())) {
            ns_ = -1;
        } else if (length.count() > 0) {
            ns_ = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
        }
    }
    Deadline(std::chrono::steady_clock::time_point at)
        : Deadline(left_until(at)) {}

    static Deadline never() noexcept { return Deadline(); }

    // As nearcall.h takes it.
    std::int64_t ns() const noexcept { return ns_; }

private:
    Deadline() noexcept : ns_(-1) {}

    static std::chrono::steady_clock::duration left_until(std::chrono::steady_clock::time_point at) {
        using Clock = std::chrono::steady_clock;
        if (at == Clock::time_point::max()) return Clock::duration::max();
        const Clock::time_point now = Clock::now();
        // Not subtracted if it has passed: the first point of all is further away than a duration can be.
        return at > now ? at - now : Clock::duration::zero();
    }

    std::int64_t ns_ = 0;
};

// A Python value of any type, for parameters that were declared with Builder::add_value.
class Value {
public:
    static Value none() { return Value(nearcall_value_none()); }
    static Value of_bool(bool value) { return Value(nearcall_value_bool(value)); }
    static Value of_int(std::int64_t value) { return Value(nearcall_value_int(value)); }
    static Value of_float(double value) { return Value(nearcall_value_float(value)); }
    static Value list() { return Value(nearcall_value_list()); }
    static Value tuple() { return Value(nearcall_value_tuple()); }
    static Value dict() { return Value(nearcall_value_dict()); }
    static Value of_bytes(span<const std::byte> bytes) {
        return Value(nearcall_value_bytes(bytes.data(), bytes.size()));
    }
    // UTF-8; otherwise there is no value.
    static std::optional<Value> of_str(std::string_view text) {
        return optional(nearcall_value_str(text.data(), text.size()));
    }
    // Elements in C order; no value if the shape does not have as many.
    template <class T>
    static std::optional<Value> of_tensor(span<const std::size_t> shape, span<const T> elements) {
        return optional(nearcall_value_tensor(
            dtype_of<T>, shape.data(), shape.size(), elements.data(), elements.size() * sizeof(T)));
    }
    static Result<Value> of_json(std::string_view json) {
        nearcall_value* value =
            nearcall_value_json(json.data(), json.size(), detail::error_of_this_thread());
        if (value == nullptr) return detail::failed();
        return Value(value);
    }

    // Puts an item at the end of a list or tuple. False for what is neither, and deeper than 64.
    bool push(Value item) {
        return nearcall_value_push(handle_.get(), item.handle_.release()) == NEARCALL_FLAG_OK;
    }
    // Puts a pair at the end of a dict. False for what is none, a key that is there, and deeper than 64.
    bool insert(std::string_view key, Value item) {
        nearcall_value* given = item.handle_.release();
        return nearcall_value_insert(handle_.get(), key.data(), key.size(), given) ==
               NEARCALL_FLAG_OK;
    }

    const nearcall_value* handle() const noexcept { return handle_.get(); }

private:
    explicit Value(nearcall_value* handle) : handle_(detail::made(handle)) {}
    static std::optional<Value> optional(nearcall_value* handle) {
        if (handle == nullptr) return std::nullopt;
        return Value(handle);
    }

    detail::Handle<nearcall_value> handle_;
};

// The arguments of a call, in the order of the engine's parameters. One that is used again (clear()) allocates
// nothing. An argument that is none (text that is not UTF-8) is reported when the task is submitted.
class Task {
public:
    Task() : handle_(detail::made(nearcall_task_new())) {}

    Task& clear() {
        nearcall_task_clear(handle_.get());
        return *this;
    }
    Task& add_bool(bool value) {
        nearcall_task_bool(handle_.get(), value);
        return *this;
    }
    Task& add_int(std::int64_t value) {
        nearcall_task_int(handle_.get(), value);
        return *this;
    }
    Task& add_float(double value) {
        nearcall_task_float(handle_.get(), value);
        return *this;
    }
    Task& add_str(std::string_view text) {
        nearcall_task_str(handle_.get(), text.data(), text.size());
        return *this;
    }
    Task& add_bools(span<const bool> items) {
        nearcall_task_bools(handle_.get(), items.data(), items.size());
        return *this;
    }
    Task& add_ints(span<const std::int64_t> items) {
        nearcall_task_ints(handle_.get(), items.data(), items.size());
        return *this;
    }
    Task& add_floats(span<const double> items) {
        nearcall_task_floats(handle_.get(), items.data(), items.size());
        return *this;
    }
    Task& add_strs(span<const std::string> items) { return add_texts(items); }
    Task& add_strs(span<const std::string_view> items) { return add_texts(items); }
    // Copied, as the two below.
    Task& add_bytes(span<const std::byte> bytes) {
        nearcall_task_bytes(handle_.get(), bytes.data(), bytes.size());
        return *this;
    }
    // Elements in C order. Engine::reserve is the way without a copy.
    template <class T>
    Task& add_tensor(span<const std::size_t> shape, span<const T> elements) {
        nearcall_task_tensor(
            handle_.get(), dtype_of<T>, shape.data(), shape.size(), elements.data(),
            elements.size() * sizeof(T));
        return *this;
    }
    Task& add_value(const Value& value) {
        nearcall_task_value(handle_.get(), value.handle());
        return *this;
    }
    // The tensor of this number of those that were reserved.
    Task& add_reserved(std::size_t index) {
        nearcall_task_reserved(handle_.get(), index);
        return *this;
    }

    // They would be gone before the task is submitted.
    template <class Text, class = std::enable_if_t<std::is_same_v<std::remove_cv_t<Text>, std::string>>>
    Task& add_str(Text&&) = delete;
    Task& add_ints(const std::vector<std::int64_t>&&) = delete;
    Task& add_floats(const std::vector<double>&&) = delete;
    Task& add_strs(const std::vector<std::string>&&) = delete;
    Task& add_strs(const std::vector<std::string_view>&&) = delete;
    template <std::size_t N>
    Task& add_bools(const std::array<bool, N>&&) = delete;
    template <std::size_t N>
    Task& add_ints(const std::array<std::int64_t, N>&&) = delete;
    template <std::size_t N>
    Task& add_floats(const std::array<double, N>&&) = delete;
    template <std::size_t N>
    Task& add_strs(const std::array<std::string, N>&&) = delete;
    template <std::size_t N>
    Task& add_strs(const std::array<std::string_view, N>&&) = delete;

    const nearcall_task* handle() const noexcept { return handle_.get(); }

private:
    template <class Text>
    Task& add_texts(span<const Text> items) {
        texts_.resize(items.size());
        nearcall_text* next = texts_.data();
        for (const Text& item : items) *next++ = nearcall_text{item.data(), item.size()};
        nearcall_task_strs(handle_.get(), texts_.data(), texts_.size());
        return *this;
    }

    detail::Handle<nearcall_task> handle_;
    // Used again; the task copies it.
    std::vector<nearcall_text> texts_;
};

// An array of an answer.
class TensorView {
public:
    explicit TensorView(const nearcall_tensor& tensor) : tensor_(tensor) {}

    nearcall_dtype dtype() const noexcept { return tensor_.dtype; }
    span<const std::size_t> shape() const noexcept {
        return span<const std::size_t>(tensor_.shape, tensor_.rank);
    }
    // In C order, at any address.
    span<const std::byte> bytes() const noexcept {
        return span<const std::byte>(static_cast<const std::byte*>(tensor_.data), tensor_.bytes);
    }
    // A copy of the elements; nothing if they are of another type.
    template <class T>
    std::optional<std::vector<T>> to_vector() const {
        static_assert(!std::is_same_v<T, bool>, "std::vector<bool> is no array: take std::uint8_t");
        const bool is_bool_as_byte =
            std::is_same_v<T, std::uint8_t> && tensor_.dtype == NEARCALL_DTYPE_BOOL;
        if (tensor_.dtype != dtype_of<T> && !is_bool_as_byte) return std::nullopt;
        std::vector<T> elements(tensor_.bytes / sizeof(T));
        if (!elements.empty()) std::memcpy(elements.data(), tensor_.data, tensor_.bytes);
        return elements;
    }

private:
    nearcall_tensor tensor_;
};

// What the model returned. Positions are those of the tuple that it returned; if it returned no tuple, all of it is at
// position 0. Reading something else than is there is an error with the code NEARCALL_CODE_ANSWER.
class Answer {
public:
    Answer() : handle_(detail::made(nearcall_answer_new())) {}

    std::size_t count() const noexcept { return nearcall_answer_count(handle_.get()); }
    // What is there; nothing if nothing is.
    std::optional<nearcall_kind> kind(std::size_t index = 0) const noexcept {
        const int kind = nearcall_answer_kind(handle_.get(), index);
        if (kind < 0) return std::nullopt;
        return static_cast<nearcall_kind>(kind);
    }
    Result<bool> get_bool(std::size_t index = 0) const {
        return get<bool>(nearcall_answer_bool, index);
    }
    Result<std::int64_t> get_int(std::size_t index = 0) const {
        return get<std::int64_t>(nearcall_answer_int, index);
    }
    Result<double> get_float(std::size_t index = 0) const {
        return get<double>(nearcall_answer_float, index);
    }
    Result<std::string_view> get_str(std::size_t index = 0) const {
        const Result<nearcall_text> text = get<nearcall_text>(nearcall_answer_str, index);
        if (!text) return detail::failed();
        return detail::view(*text);
    }
    Result<span<const std::byte>> get_bytes(std::size_t index = 0) const {
        const Result<nearcall_text> text = get<nearcall_text>(nearcall_answer_bytes, index);
        if (!text) return detail::failed();
        return span<const std::byte>(
            static_cast<const std::byte*>(static_cast<const void*>(text->data)), text->len);
    }
    Result<TensorView> get_tensor(std::size_t index = 0) const {
        const Result<nearcall_tensor> tensor = get<nearcall_tensor>(nearcall_answer_tensor, index);
        if (!tensor) return detail::failed();
        return TensorView(*tensor);
    }
    Result<std::vector<std::int64_t>> get_ints(std::size_t index = 0) const {
        return get_list<std::int64_t>(nearcall_answer_ints, index);
    }
    Result<std::vector<double>> get_floats(std::size_t index = 0) const {
        return get_list<double>(nearcall_answer_floats, index);
    }
    Result<std::vector<std::string_view>> get_strs(std::size_t index = 0) const {
        const Result<std::vector<nearcall_text>> texts =
            get_list<nearcall_text>(nearcall_answer_strs, index);
        if (!texts) return detail::failed();
        std::vector<std::string_view> views;
        for (const nearcall_text& text : *texts) views.push_back(detail::view(text));
        return views;
    }
    // All of it, whatever it is.
    const nearcall_view& view() { return *detail::made(nearcall_answer_view(handle_.get())); }

    nearcall_answer* handle() noexcept { return handle_.get(); }
    const nearcall_answer* handle() const noexcept { return handle_.get(); }

private:
    template <class T>
    Result<T> get(
        int (*read)(const nearcall_answer*, std::size_t, T*, nearcall_error*),
        std::size_t index) const {
        T value{};
        if (read(handle_.get(), index, &value, detail::error_of_this_thread()) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return value;
    }
    template <class T>
    Result<std::vector<T>> get_list(
        int (*read)(const nearcall_answer*, std::size_t, T*, std::size_t, std::size_t*, nearcall_error*),
        std::size_t index) const {
        std::size_t count = 0;
        nearcall_error* error = detail::error_of_this_thread();
        if (read(handle_.get(), index, nullptr, 0, &count, error) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        std::vector<T> items(count);
        if (read(handle_.get(), index, items.data(), count, &count, error) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return items;
    }

    detail::Handle<nearcall_answer> handle_;
};

// A task that was accepted. Destroying it abandons the task, so that nothing leaks when an exception passes.
class [[nodiscard]] Ticket {
public:
    Ticket(nearcall_engine* engine, std::int64_t key) noexcept : engine_(engine), key_(key) {}
    Ticket(Ticket&& other) noexcept : engine_(other.engine_), key_(other.release()) {}
    Ticket& operator=(Ticket&& other) noexcept {
        if (this != &other) {
            abandon();
            engine_ = other.engine_;
            key_ = other.release();
        }
        return *this;
    }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() { abandon(); }

    // Positive; 0 after release().
    std::int64_t key() const noexcept { return key_; }
    // The key alone: nobody abandons the task any more.
    std::int64_t release() noexcept { return std::exchange(key_, 0); }

private:
    void abandon() noexcept {
        if (key_ != 0) nearcall_abandon(engine_, key_);
        key_ = 0;
    }

    nearcall_engine* engine_;
    std::int64_t key_;
};

// An array to be reserved.
struct Spec {
    nearcall_dtype dtype;
    std::vector<std::size_t> shape;
    bool is_output;

    template <class T>
    static Spec input(std::vector<std::size_t> shape) {
        return Spec{dtype_of<T>, std::move(shape), false};
    }
    // Room that the model writes, as in numpy's `out=`.
    template <class T>
    static Spec output(std::vector<std::size_t> shape) {
        return Spec{dtype_of<T>, std::move(shape), true};
    }
};

// Room for a task's arrays in shared memory, where the model reads them. Destroy it before its engine.
class [[nodiscard]] Reserved {
public:
    Reserved(
        nearcall_engine* engine,
        nearcall_reserved* handle,
        std::vector<nearcall_dtype> dtypes) noexcept
        : engine_(engine), handle_(handle), dtypes_(std::move(dtypes)) {}

    // The array of this number, to be written until the task is submitted. What was never written is zeros, or what
    // an earlier task has left. An error for an output, and for elements that are not T.
    template <class T>
    Result<span<T>> elements(std::size_t index) {
        if (index < dtypes_.size() && dtypes_[index] != dtype_of<T>) {
            return detail::failed(detail::misuse("the reserved array has elements of another type"));
        }
        std::size_t bytes = 0;
        void* data = nearcall_reserved_data(
            handle_.get(), index, &bytes, detail::error_of_this_thread());
        if (data == nullptr) return detail::failed();
        return span<T>(static_cast<T*>(data), bytes / sizeof(T));
    }
    Result<Ticket> submit(const Task& task, Deadline deadline = Deadline::never()) {
        std::int64_t key = 0;
        const int flag = nearcall_reserved_submit(
            handle_.get(), task.handle(), deadline.ns(), &key, detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return Ticket(engine_, key);
    }
    Result<Answer> call(const Task& task, Deadline deadline) {
        Answer answer;
        const int flag = nearcall_reserved_call(
            handle_.get(), task.handle(), deadline.ns(), answer.handle(),
            detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return answer;
    }

private:
    nearcall_engine* engine_;
    detail::Handle<nearcall_reserved> handle_;
    std::vector<nearcall_dtype> dtypes_;
};

// How an engine ended.
struct Shutdown {
    // All tasks were done in time.
    bool drained;
    // Workers that had to be killed.
    std::size_t killed;
};

// A model in worker processes. Destroying it ends them: running tasks get 0.3 s; shutdown() lets them finish.
class Engine {
public:
    explicit Engine(nearcall_engine* handle) noexcept : handle_(handle) {}

    // Accepts a task. Never waits; an error that is_temporary() when all slots are taken.
    Result<Ticket> submit(const Task& task) const { return submit_by(task, Deadline::never()); }
    // One that has to be done by then; if it is not, it ends with the code NEARCALL_CODE_DEADLINE_PASSED.
    Result<Ticket> submit_by(const Task& task, Deadline deadline) const {
        std::int64_t key = 0;
        const int flag = nearcall_submit_by(
            handle_.get(), task.handle(), deadline.ns(), &key, detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return Ticket(handle_.get(), key);
    }

    // Takes the answer of a task, if it is done. Never waits.
    Result<std::optional<Answer>> retrieve(std::int64_t key) const {
        Answer answer;
        const Result<bool> is_done = retrieve_into(key, answer);
        if (!is_done) return detail::failed();
        if (!*is_done) return std::optional<Answer>();
        return std::optional<Answer>(std::move(answer));
    }
    Result<std::optional<Answer>> retrieve(const Ticket& ticket) const {
        return retrieve(ticket.key());
    }
    // The same, into an answer whose memory is used again. False while the task is not done.
    Result<bool> retrieve_into(std::int64_t key, Answer& answer) const {
        const int flag = nearcall_retrieve(
            handle_.get(), key, answer.handle(), detail::error_of_this_thread());
        if (flag == NEARCALL_FLAG_OK) return true;
        if (flag == NEARCALL_FLAG_AGAIN) return false;
        return detail::failed();
    }
    Result<bool> retrieve_into(const Ticket& ticket, Answer& answer) const {
        return retrieve_into(ticket.key(), answer);
    }

    // Waits for the answer of a task. An error that is_temporary() at the deadline: the task goes on.
    Result<Answer> wait(std::int64_t key, Deadline deadline) const {
        Answer answer;
        const int flag = nearcall_wait(
            handle_.get(), key, deadline.ns(), answer.handle(), detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return answer;
    }
    Result<Answer> wait(const Ticket& ticket, Deadline deadline) const {
        return wait(ticket.key(), deadline);
    }
    // The same, into an answer whose memory is used again.
    Result<void> wait_into(std::int64_t key, Deadline deadline, Answer& answer) const {
        return detail::done(nearcall_wait(
            handle_.get(), key, deadline.ns(), answer.handle(), detail::error_of_this_thread()));
    }
    Result<void> wait_into(const Ticket& ticket, Deadline deadline, Answer& answer) const {
        return wait_into(ticket.key(), deadline, answer);
    }

    // Submits a task and waits for its answer. At the deadline the task is ended.
    Result<Answer> call(const Task& task, Deadline deadline) const {
        Answer answer;
        const int flag = nearcall_call(
            handle_.get(), task.handle(), deadline.ns(), answer.handle(),
            detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return answer;
    }
    // The same, into an answer whose memory is used again: the quickest way.
    Result<void> call_into(const Task& task, Deadline deadline, Answer& answer) const {
        return detail::done(nearcall_call(
            handle_.get(), task.handle(), deadline.ns(), answer.handle(),
            detail::error_of_this_thread()));
    }

    // Ends a task that is not done yet. False: it was over before, or there is no such task.
    bool cancel(std::int64_t key) const noexcept {
        bool was_running = false;
        nearcall_cancel(handle_.get(), key, &was_running);
        return was_running;
    }
    bool cancel(const Ticket& ticket) const noexcept { return cancel(ticket.key()); }
    // The same, but only if no worker has begun it: none is interrupted or killed.
    bool cancel_waiting(std::int64_t key) const noexcept {
        bool was_waiting = false;
        nearcall_cancel_waiting(handle_.get(), key, &was_waiting);
        return was_waiting;
    }
    bool cancel_waiting(const Ticket& ticket) const noexcept { return cancel_waiting(ticket.key()); }
    // Gives up a task by its key, as destroying its ticket does.
    void abandon(std::int64_t key) const noexcept { nearcall_abandon(handle_.get(), key); }

    // For event loops: the descriptor to watch (poll, epoll), as long as the engine lives. It becomes readable when a
    // task is over that notify() was asked for, and stays so until dispatch().
    Result<int> completions_fd() const {
        int fd = -1;
        if (nearcall_completions_fd(handle_.get(), &fd, detail::error_of_this_thread()) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return fd;
    }
    // Has the key be given by dispatch() once its task is over. True: it is over already, and will not be given.
    Result<bool> notify(std::int64_t key) const {
        bool is_over = false;
        if (nearcall_notify(handle_.get(), key, &is_over, detail::error_of_this_thread()) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return is_over;
    }
    Result<bool> notify(const Ticket& ticket) const { return notify(ticket.key()); }
    // Adds the keys of tasks that are over. Never waits.
    Result<void> dispatch(std::vector<std::int64_t>& over) const {
        for (;;) {
            constexpr std::size_t room = 64;
            std::int64_t keys[room];
            std::size_t count = 0;
            const int flag = nearcall_dispatch(
                handle_.get(), keys, room, &count, detail::error_of_this_thread());
            over.insert(over.end(), keys, keys + count);
            if (flag != NEARCALL_FLAG_AGAIN) return detail::done(flag);
        }
    }

    // Room for a task's arrays, written where the model reads them.
    Result<Reserved> reserve(const std::vector<Spec>& arrays) const {
        std::vector<nearcall_spec> specs;
        std::vector<nearcall_dtype> dtypes;
        for (const Spec& array : arrays) {
            dtypes.push_back(array.dtype);
            specs.push_back(nearcall_spec{
                array.dtype, array.is_output, array.shape.data(), array.shape.size()});
        }
        nearcall_reserved* reserved = nullptr;
        const int flag = nearcall_reserve(
            handle_.get(), specs.data(), specs.size(), &reserved, detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return Reserved(handle_.get(), reserved, std::move(dtypes));
    }

    // Ends the engine, when all tasks are done or at the deadline. Answers stay to be retrieved.
    Shutdown shutdown(Deadline deadline) const noexcept {
        Shutdown ended{true, 0};
        nearcall_shutdown(handle_.get(), deadline.ns(), &ended.drained, &ended.killed);
        return ended;
    }
    // Replaces all workers by such that have the model's code as it is now. Gives how many.
    Result<std::size_t> reload(Deadline deadline) const {
        std::size_t workers = 0;
        const int flag = nearcall_reload(
            handle_.get(), deadline.ns(), &workers, detail::error_of_this_thread());
        if (flag != NEARCALL_FLAG_OK) return detail::failed();
        return workers;
    }
    Result<nearcall_health_report> health() const {
        nearcall_health_report report{};
        if (nearcall_health(handle_.get(), &report, detail::error_of_this_thread()) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return report;
    }
    std::size_t in_use() const noexcept { return nearcall_in_use(handle_.get()); }
    std::size_t slots() const noexcept { return nearcall_slots(handle_.get()); }
    std::size_t workers() const noexcept { return nearcall_workers(handle_.get()); }
    // The process ids of the workers that serve at this moment.
    std::vector<std::uint32_t> worker_pids() const {
        std::vector<std::uint32_t> pids(workers() + 1);
        const std::size_t found = nearcall_worker_pids(handle_.get(), pids.data(), pids.size());
        if (found < pids.size()) pids.resize(found);
        return pids;
    }

    nearcall_engine* handle() const noexcept { return handle_.get(); }

private:
    detail::Handle<nearcall_engine> handle_;
};

// How many items a list has.
struct Length {
    std::uint32_t min;
    std::uint32_t max;

    static constexpr Length any() { return Length{0, std::numeric_limits<std::uint32_t>::max()}; }
    static constexpr Length exactly(std::uint32_t count) { return Length{count, count}; }
    static constexpr Length between(std::uint32_t min, std::uint32_t max) { return Length{min, max}; }
};

// The settings of an engine. What they mean, and what they are by default, stands in nearcall.h at nearcall_builder_...
class Builder {
public:
    // "module:Class", or "module:function".
    explicit Builder(const std::string& model)
        : handle_(detail::made(nearcall_builder_new(model.c_str()))) {}

    // The model's keyword arguments, in order.
    Builder& add_bool(const std::string& name) { return add(name, NEARCALL_TYPE_BOOL); }
    Builder& add_int(const std::string& name) { return add(name, NEARCALL_TYPE_INT); }
    Builder& add_float(const std::string& name) { return add(name, NEARCALL_TYPE_FLOAT); }
    Builder& add_str(const std::string& name) { return add(name, NEARCALL_TYPE_STR); }
    Builder& add_value(const std::string& name) { return add(name, NEARCALL_TYPE_VALUE); }
    Builder& add_bools(const std::string& name, Length length = Length::any()) {
        return add(name, NEARCALL_TYPE_BOOLS, length);
    }
    Builder& add_ints(const std::string& name, Length length = Length::any()) {
        return add(name, NEARCALL_TYPE_INTS, length);
    }
    Builder& add_floats(const std::string& name, Length length = Length::any()) {
        return add(name, NEARCALL_TYPE_FLOATS, length);
    }
    Builder& add_strs(const std::string& name, Length length = Length::any()) {
        return add(name, NEARCALL_TYPE_STRS, length);
    }

    Builder& method(const std::string& name) { return set(nearcall_builder_method, name); }
    Builder& init_kwargs_json(const std::string& json) {
        return set(nearcall_builder_init_kwargs_json, json);
    }
    Builder& python(const std::string& environment_or_interpreter) {
        return set(nearcall_builder_python, environment_or_interpreter);
    }
    Builder& python_path(const std::string& folder) {
        return set(nearcall_builder_python_path, folder);
    }
    Builder& worker(const std::string& binary) { return set(nearcall_builder_worker, binary); }
    Builder& worker_from_python() {
        nearcall_builder_worker_from_python(handle_.get());
        return *this;
    }
    Builder& env(const std::string& name, const std::string& value) {
        nearcall_builder_env(handle_.get(), name.c_str(), value.c_str());
        return *this;
    }
    Builder& clear_env(bool clear) { return set(nearcall_builder_clear_env, clear); }
    Builder& compute_threads(std::uint32_t threads) {
        return set(nearcall_builder_compute_threads, threads);
    }
    Builder& start_method(nearcall_start_method method) {
        return set(nearcall_builder_start_method, static_cast<std::int32_t>(method));
    }
    Builder& workers(std::size_t workers) { return set(nearcall_builder_workers, workers); }
    Builder& slots(std::size_t slots) { return set(nearcall_builder_slots, slots); }
    Builder& slot_bytes(std::size_t bytes) { return set(nearcall_builder_slot_bytes, bytes); }
    Builder& payload_bytes(std::size_t bytes) { return set(nearcall_builder_payload_bytes, bytes); }
    Builder& huge_pages(bool huge) { return set(nearcall_builder_huge_pages, huge); }
    Builder& wait_policy(nearcall_wait_policy policy) {
        return set(nearcall_builder_wait_policy, static_cast<std::int32_t>(policy));
    }
    Builder& collect_garbage_between_calls(bool between_calls) {
        return set(nearcall_builder_collect_garbage_between_calls, between_calls);
    }
    Builder& retries(std::uint32_t retries) { return set(nearcall_builder_retries, retries); }
    Builder& interrupt(std::chrono::nanoseconds grace) {
        return set(nearcall_builder_interrupt, std::int64_t{grace.count()});
    }
    Builder& spare(bool spare) { return set(nearcall_builder_spare, spare); }
    Builder& hung_after(std::chrono::nanoseconds time) {
        return set(nearcall_builder_hung_after, std::int64_t{time.count()});
    }
    Builder& max_tasks(std::uint64_t tasks) { return set(nearcall_builder_max_tasks, tasks); }
    Builder& max_age(std::chrono::nanoseconds age) {
        return set(nearcall_builder_max_age, std::int64_t{age.count()});
    }
    Builder& max_rss(std::uint64_t bytes) { return set(nearcall_builder_max_rss, bytes); }
    Builder& memory_limit(std::uint64_t bytes) { return set(nearcall_builder_memory_limit, bytes); }
    Builder& descriptor_limit(std::uint64_t descriptors) {
        return set(nearcall_builder_descriptor_limit, descriptors);
    }
    Builder& cpu_limit(std::uint64_t seconds) { return set(nearcall_builder_cpu_limit, seconds); }
    Builder& start_deadline(std::chrono::nanoseconds deadline) {
        return set(nearcall_builder_start_deadline, std::int64_t{deadline.count()});
    }

    // Starts an engine; returns once all workers are ready. The builder can start others.
    Result<Engine> start() const {
        nearcall_engine* engine = nullptr;
        if (nearcall_start(handle_.get(), &engine, detail::error_of_this_thread()) != NEARCALL_FLAG_OK) {
            return detail::failed();
        }
        return Engine(engine);
    }

    nearcall_builder* handle() noexcept { return handle_.get(); }

private:
    Builder& add(const std::string& name, nearcall_type type, Length length = Length::any()) {
        nearcall_builder_list(handle_.get(), name.c_str(), type, length.min, length.max);
        return *this;
    }
    // What cannot be is reported by start().
    Builder& set(int (*setter)(nearcall_builder*, const char*), const std::string& text) {
        setter(handle_.get(), text.c_str());
        return *this;
    }
    template <class T>
    Builder& set(int (*setter)(nearcall_builder*, T), T value) {
        setter(handle_.get(), value);
        return *this;
    }

    detail::Handle<nearcall_builder> handle_;
};

// The version of the library that the program runs with, as in "0.1.0".
inline std::string_view version() noexcept { return nearcall_version(); }

}  // inline namespace
}  // namespace nearcall

#endif  // NEARCALL_HPP
