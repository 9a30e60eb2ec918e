// A fixture with a folder of its own, which goes with the test.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace vkqat {

class FolderTest : public testing::Test {
protected:
    FolderTest() {
        std::string name = (std::filesystem::temp_directory_path() / "vkqat-app-XXXXXX").string();
        if (::mkdtemp(name.data())) folder = name;
    }
    ~FolderTest() override {
        std::error_code error;
        if (!folder.empty()) std::filesystem::remove_all(folder, error);
    }
    void SetUp() override { ASSERT_FALSE(folder.empty()) << "no temporary folder"; }
    std::filesystem::path folder;
};

}  // namespace vkqat
