// A graph of GPU work: built once by plain functions (`Tensor y = rms_norm(g, x, weight, eps)`), then planned (plan.h) and
// replayed (executable.h). Tensors are symbolic while building; an address is assigned when a tensor's life is known.
#pragma once

#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/graph/shape.h"
#include "runtime/support/dtype.h"
#include "runtime/vulkan/device.h"

namespace vkqat {

class Graph;

// A handle: cheap to copy, valid as long as its graph.
class Tensor {
public:
    Tensor() = default;
    explicit operator bool() const { return graph_ != nullptr; }
    const Shape& shape() const;
    DType dtype() const;
    const std::string& name() const;
    int64_t rows() const { return shape().rows(); }
    int64_t cols() const { return shape().cols(); }
    int64_t elements() const { return shape().elements(); }
    uint64_t bytes() const { return uint64_t(elements()) * vkqat::bytes(dtype()); }
    uint32_t id() const { return id_; }
    bool operator==(const Tensor&) const = default;

private:
    friend class Graph;
    Tensor(const Graph* graph, uint32_t id) : graph_(graph), id_(id) {}
    const Graph* graph_ = nullptr;
    uint32_t id_ = 0;
};

// How a node uses a tensor. An absent tensor is allowed where the operation says so: its address is then 0.
struct Access {
    Tensor tensor;
    bool reads, writes;
};
inline Access in(Tensor t) { return {t, true, false}; }
inline Access out(Tensor t) { return {t, false, true}; }
inline Access inout(Tensor t) { return {t, true, true}; }

// Workgroups to run: a fixed grid, or three uint32 in a buffer that earlier nodes may write.
struct Grid {
    uint32_t x = 1, y = 1, z = 1;
    Tensor indirect = {};  // u32 [3]; if set, x, y, z are ignored
};
// `count` workgroups as a grid that no dimension limit stops; shaders get their number from workgroup_index().
Grid linear_grid(int64_t count);

// What profiles and benchmarks print beside the time.
struct Cost {
    double flops = 0;
    double bytes = -1;  // -1: every tensor once, as read and written
};

struct Node {
    Pipeline* pipeline = nullptr;
    std::string label;
    std::vector<Access> accesses;
    std::vector<std::byte> arguments;  // one uint64 address for each access, then the rest of the argument struct
    Grid grid;
    double bytes = 0, flops = 0;
};

// Where an operation's backward node writes the gradient of an input: out = base + value, base absent or the same as out
// when the gradient has not been touched or is accumulated in place.
struct GradientSlot {
    Tensor out, base;
};

// The type in which matrix products are computed where the device has matrix units for it (else f32); sums are always fp32.
enum class Precision { f32, bf16, f16 };

class Graph {
public:
    enum class Mode { inference, training };  // training: operations leave their backward on the tape
    explicit Graph(Device& device, Mode mode = Mode::inference) : device_(device), mode_(mode) {}
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    Device& device() const { return device_; }
    const Capabilities& capabilities() const { return device_.capabilities(); }

    // A tensor whose memory the plan assigns; it lives from its first to its last use.
    Tensor tensor(const Shape& shape, DType dtype, std::string name);
    Tensor like(Tensor other, std::string name) { return tensor(other.shape(), other.dtype(), std::move(name)); }
    // A tensor in memory of somebody else that outlives the executables. In an empty buffer: the graph can be planned, not run.
    Tensor external(const Buffer& buffer, uint64_t offset, const Shape& shape, DType dtype, std::string name);
    // Device addresses of external tensors, i64 [n] in memory of the graph's own: for nodes that use more tensors than arguments
    // hold. A node that reads the table is taken to use them as said here.
    Tensor address_table(std::vector<Access> externals, std::string name);
    // The same memory seen with another shape, from a byte offset on.
    Tensor view(Tensor of, uint64_t byte_offset, const Shape& shape, std::string name);
    Tensor reshape(Tensor of, const Shape& shape) { return view(of, 0, shape, of.name()); }
    // An external tensor that is trained: its gradient goes to `gradient` (same shape, f32). `accumulate`: added to what is
    // there (a further micro-step), otherwise it replaces it.
    void set_parameter(Tensor weight, Tensor gradient, bool accumulate);

    // Adds a node. Args is the struct that the shader shares (shaders/args/*.h): its first Args::address_count members are the
    // addresses of `accesses`, in that order; they are left 0 here.
    template <class Args>
    void dispatch(const Kernel& kernel, std::initializer_list<Access> accesses, const Args& args, const Grid& grid,
                  std::string label, const Cost& cost = {}) {
        static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= Pipelines::push_constant_bytes);
        add_node(kernel, std::vector<Access>(accesses), Args::address_count, std::as_bytes(std::span<const Args, 1>(&args, 1)),
                 grid, std::move(label), cost);
    }

    // Keeps a planned tensor's memory to the end of the graph, so that it can be read after a run.
    void keep(Tensor t) { storages_[tensors_[t.id_].storage].keep = true; }

    // For the products that are added after this.
    void set_precision(Precision precision) { precision_ = precision; }
    Precision precision() const { return precision_; }

    // Names in front of the labels of the nodes that follow ("layers.3").
    void set_scope(std::string scope) { scope_ = std::move(scope); }
    const std::string& scope() const { return scope_; }

    // --- differentiation -------------------------------------------------------------------------------------------------
    bool training() const { return mode_ == Mode::training; }
    bool requires_gradient(Tensor t) const;
    // Says how dL/dinputs follow from dL/dy. Ignored unless training and an input requires a gradient; then y does as well.
    void on_backward(Tensor y, std::initializer_list<Tensor> inputs, std::function<void(Graph&, Tensor dy)> backward);
    // Where a backward node writes dL/dx. Call it once for each contribution and add the node at once.
    // `rounded`: the node can write the type of set_gradient_type(), and does if it is the first contribution.
    GradientSlot gradient_slot(Tensor x, bool rounded = false);
    // x's gradient is read only by nodes that round it to this type themselves: it may be kept in it.
    void set_gradient_type(Tensor x, DType type) { gradients_[x.id_].type = type; }
    // dL/dx += dy without copying where x has no other contribution yet (residuals, reshapes).
    void pass_gradient(Tensor x, Tensor dy);
    Tensor gradient(Tensor x) const;  // absent if there is none
    // Memory against time: what nodes wrote into the tensor so far does not stay for the backward pass; the first backward node
    // that reads it has these nodes run once more, and those before them whose results do not stay either. The same bits come
    // out. Ignored for external tensors and in inference.
    void recompute(Tensor t);
    // How a tensor is made again, instead of by the nodes that made it first: `how` adds nodes that write all of its second
    // argument.
    void recompute_by(Tensor t, std::function<void(Graph&, Tensor)> how);
    size_t tensor_count() const { return tensors_.size(); }
    // All tensors from number `first` on but `kept`.
    void recompute_since(size_t first, Tensor kept);
    // Walks the tape from `loss` with dL/dloss in `seed`.
    void backward(Tensor loss, Tensor seed);

    // --- what plan and executable read ---------------------------------------------------------------------------------
    struct Storage {
        std::string name;
        uint64_t bytes = 0;
        uint64_t address = 0;  // external storage; 0 for the plan's
        VkBuffer buffer = VK_NULL_HANDLE;
        uint64_t buffer_offset = 0;
        bool keep = false;  // to the end of the graph
    };
    struct TensorInfo {
        std::string name;
        Shape shape;
        DType dtype;
        uint32_t storage;
        uint64_t offset;  // bytes into the storage
    };
    const std::vector<Node>& nodes() const { return nodes_; }
    const std::vector<Storage>& storages() const { return storages_; }
    const TensorInfo& info(Tensor t) const { return tensors_[t.id_]; }
    // What a node uses through this tensor: nothing unless it is an address_table().
    std::span<const Access> uses_of(Tensor t) const;

private:
    friend class Tensor;
    struct GradientState {
        Tensor tensor;        // where the gradient is now; absent: nowhere yet
        bool shared = false;  // the memory serves another gradient too: copy on write
        bool required = false;
        DType type = DType::f32;
        Tensor parameter;  // gradient buffer of a parameter
        bool accumulate = false;
    };
    void add_node(const Kernel& kernel, std::vector<Access> accesses, uint32_t address_count, std::span<const std::byte> args,
                  const Grid& grid, std::string label, const Cost& cost);

    Tensor restored(Tensor t);
    void restore(uint32_t storage);

    Device& device_;
    Mode mode_;
    Precision precision_ = Precision::f32;
    std::string scope_;
    std::vector<TensorInfo> tensors_;
    std::vector<Storage> storages_;
    std::vector<Node> nodes_;
    struct AddressTable {
        Buffer buffer;
        std::vector<Access> uses;
    };
    std::map<uint32_t, AddressTable> address_tables_;  // by storage
    std::vector<GradientState> gradients_;             // by tensor
    struct TapeEntry {
        Tensor y;
        std::string scope;
        std::function<void(Graph&, Tensor)> backward;
    };
    std::vector<TapeEntry> tape_;
    bool backward_ = false;
    std::vector<bool> recomputed_;                     // by storage: does not stay for the backward pass
    std::map<uint32_t, uint32_t> copies_;              // storage -> the one that holds it again in the backward pass
    std::map<uint32_t, Tensor> restored_;              // tensor -> the same in that storage
    std::map<uint32_t, std::vector<size_t>> writers_;  // storage -> the forward nodes that write it
    struct Maker {
        Tensor first;
        std::function<void(Graph&, Tensor)> how;
    };
    std::map<uint32_t, Maker> makers_;  // by storage
};

inline const Shape& Tensor::shape() const { return graph_->tensors_[id_].shape; }
inline DType Tensor::dtype() const { return graph_->tensors_[id_].dtype; }
inline const std::string& Tensor::name() const { return graph_->tensors_[id_].name; }

// Error unless the tensor has this shape and type; `what` names it ("rms_norm: weight").
void expect(Tensor t, const Shape& shape, DType dtype, std::string_view what);

}  // namespace vkqat
