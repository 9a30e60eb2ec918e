#include "runtime/formats/model_digest.h"

#include <algorithm>
#include <vector>

#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/support/hash.h"

namespace vkqat {
namespace fs = std::filesystem;

std::string model_digest(const fs::path& model) {
    std::vector<fs::path> files;
    if (fs::is_directory(model)) {
        for (const fs::directory_entry& entry : fs::directory_iterator(model)) {
            std::string name = entry.path().filename().string();
            if (entry.is_regular_file() &&
                (name.ends_with(".safetensors") || name.ends_with(".json") || name.ends_with(".model")))
                files.push_back(entry.path());
        }
        std::sort(files.begin(), files.end());
    } else {
        files = {model};
    }
    uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over names, sizes and checksums
    auto add = [&](std::string_view text) {
        for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
    };
    for (const fs::path& file : files) {
        MappedFile mapped(file);
        add(fmt::format("{} {} {:08x};", fs::is_directory(model) ? file.filename().string() : "", mapped.bytes().size(),
                        checksum(mapped.bytes())));
    }
    return fmt::format("{:016x}", hash);
}

}  // namespace vkqat
