// What the tests of this room share: a scratch folder, the folders of reference vectors and data, errors and their text.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "tests/support/reference.h"

namespace vkqat {

class ScratchFolder {
public:
    ScratchFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "vkqat-formats-XXXXXX").string();
        if (!::mkdtemp(name.data())) fail("{}: cannot be created", name);
        path_ = name;
    }
    ~ScratchFolder() {
        std::error_code error;
        std::filesystem::remove_all(path_, error);
    }
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& path, std::string_view text) {
    std::filesystem::remove(path);  // some file systems flush to disk when an existing file is cut to nothing
    std::ofstream(path, std::ios::binary) << text;
}

using test::data_folder;
using test::reference_folder;

// The message of the Error that `work` must throw; any other exception, or none, fails the test.
template <class Work>
std::string error_of(Work&& work) {
    try {
        work();
    } catch (const Error& e) {
        return e.what();
    }
    ADD_FAILURE() << "expected an Error";
    return "";
}

}  // namespace vkqat

#define EXPECT_CONTAINS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

// The next statement needs PATH of the reference vectors or data.
#define SKIP_WITHOUT(path) \
    if (!std::filesystem::exists(path)) GTEST_SKIP() << (path).string() << " is missing (VKQAT_REFERENCE, VKQAT_DATA)"
