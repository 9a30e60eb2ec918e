// Preloaded into a program by tests: kills it (as by `kill -9`) in the middle of a save. VKQAT_KILL_AT is "write TEXT" (half of
// what is to be written is written, the first time that it holds TEXT) or "rename TEXT" (just before a file whose name holds TEXT
// gets it).
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

bool kills(const char* at, std::string_view text) {
    const char* wish = std::getenv("VKQAT_KILL_AT");
    if (!wish) return false;
    const std::string_view w = wish;
    const size_t space = w.find(' ');
    return w.substr(0, space) == at && text.find(w.substr(space + 1)) != text.npos;
}

template <class Function>
Function real(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ssize_t write(int fd, const void* data, size_t size) {
    static const auto next = real<ssize_t (*)(int, const void*, size_t)>("write");
    if (size > 64 && kills("write", {static_cast<const char*>(data), size})) {
        (void)!next(fd, data, size / 2);
        ::kill(::getpid(), SIGKILL);
    }
    return next(fd, data, size);
}

extern "C" __attribute__((visibility("default"))) int rename(const char* from, const char* to) {
    static const auto next = real<int (*)(const char*, const char*)>("rename");
    if (kills("rename", to)) ::kill(::getpid(), SIGKILL);
    return next(from, to);
}
