// The one exception type of the project: what was wrong, where, what was expected, what can be done.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace vkqat {

class Error : public std::runtime_error {
public:
    explicit Error(const std::string& message) : std::runtime_error(message) {}
};

// Wrong use of a program (unknown option or key): exit code 2. Everything else that fails is an Error: exit code 1.
class UsageError : public Error {
    using Error::Error;
};

// Throws Error with a formatted message: fail("{}: expected {} bytes, found {}", file, expected, found).
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Runs `work`; an Error that leaves it gets `where` in front of its message.
template <class Work>
decltype(auto) in_context(std::string_view where, Work&& work) {
    try {
        return work();
    } catch (const UsageError& e) {
        throw UsageError(fmt::format("{}: {}", where, e.what()));
    } catch (const Error& e) {
        throw Error(fmt::format("{}: {}", where, e.what()));
    }
}

}  // namespace vkqat
