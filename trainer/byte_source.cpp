#include "trainer/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "runtime/support/error.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

class PlainSource : public ByteSource {
public:
    explicit PlainSource(const fs::path& path) : path_(path), file_(std::fopen(path.c_str(), "rb"), &std::fclose) {
        if (!file_) fail("{}: cannot open the file: {}", path_.string(), std::strerror(errno));
    }
    size_t read(std::span<char> out) override {
        size_t n = std::fread(out.data(), 1, out.size(), file_.get());
        if (n < out.size() && std::ferror(file_.get())) fail("{}: cannot read: {}", path_.string(), std::strerror(errno));
        consumed_ += n;
        return n;
    }
    uint64_t consumed() const override { return consumed_; }

private:
    fs::path path_;
    uint64_t consumed_ = 0;
    std::unique_ptr<FILE, int (*)(FILE*)> file_;
};

class GzipSource : public ByteSource {
public:
    explicit GzipSource(const fs::path& path) : path_(path), file_(gzopen(path.c_str(), "rb"), &gzclose) {
        if (!file_) fail("{}: cannot open the file: {}", path_.string(), std::strerror(errno));
        gzbuffer(file_.get(), 1 << 18);
        if (gzdirect(file_.get())) fail("{}: is no gzip file, which its name says it is", path_.string());
    }
    size_t read(std::span<char> out) override {
        size_t filled = 0;
        while (filled < out.size()) {
            int n = gzread(file_.get(), out.data() + filled, unsigned(std::min(out.size() - filled, size_t(1) << 30)));
            int code = Z_OK;
            const char* message = gzerror(file_.get(), &code);
            if (code == Z_BUF_ERROR) fail("{}: the gzip data is cut off", path_.string());
            if (n < 0 || code != Z_OK) fail("{}: the gzip data is damaged: {}", path_.string(), message);
            if (n == 0) break;
            filled += size_t(n);
        }
        return filled;
    }
    uint64_t consumed() const override { return uint64_t(std::max<z_off_t>(0, gzoffset(file_.get()))); }

private:
    fs::path path_;
    std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

class ZstdSource : public ByteSource {
public:
    explicit ZstdSource(const fs::path& path)
        : path_(path), file_(path), stream_(ZSTD_createDStream(), &ZSTD_freeDStream), buffer_(ZSTD_DStreamInSize()) {
        if (!stream_) fail("{}: no memory for decompression", path_.string());
    }
    size_t read(std::span<char> out) override {
        ZSTD_outBuffer output{out.data(), out.size(), 0};
        while (output.pos < output.size) {
            if (input_.pos == input_.size) {
                input_ = {buffer_.data(), file_.read(buffer_), 0};
                // At the end of the file one more call flushes what the decoder still holds.
                if (input_.size == 0 && !flush(output)) break;
                if (input_.size == 0) continue;
            }
            in_frame_ = step(output) != 0;
        }
        return output.pos;
    }
    uint64_t consumed() const override { return file_.consumed(); }

private:
    size_t step(ZSTD_outBuffer& output) {
        size_t result = ZSTD_decompressStream(stream_.get(), &output, &input_);
        if (ZSTD_isError(result)) fail("{}: the zstd data is damaged: {}", path_.string(), ZSTD_getErrorName(result));
        return result;
    }
    // False when nothing is left. Error when the last frame is incomplete.
    bool flush(ZSTD_outBuffer& output) {
        if (!in_frame_) return false;
        size_t before = output.pos;
        in_frame_ = step(output) != 0;
        if (in_frame_ && output.pos == before) fail("{}: the zstd data is cut off", path_.string());
        return true;
    }

    fs::path path_;
    PlainSource file_;
    std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
    std::vector<char> buffer_;
    ZSTD_inBuffer input_{nullptr, 0, 0};
    bool in_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const fs::path& file) {
    if (!fs::exists(file)) fail("{}: there is no such file", file.string());
    if (!fs::is_regular_file(file)) fail("{}: is no regular file", file.string());
    if (file.extension() == ".gz") return std::make_unique<GzipSource>(file);
    if (file.extension() == ".zst") return std::make_unique<ZstdSource>(file);
    return std::make_unique<PlainSource>(file);
}

}  // namespace vkqat
