#include "runtime/ops/fusion.h"

#include "runtime/ops/add.h"
#include "runtime/ops/rms_norm.h"
#include "runtime/ops/swiglu.h"

namespace vkqat {

Tensor unfused(Graph& g, Tensor x, const LinearFusion& fusion, const std::string& label,
               const std::function<Tensor(Tensor x, Tensor residual)>& product) {
    if (fusion.norm) x = rms_norm(g, x, fusion.norm, fusion.eps);
    if (!fusion.swiglu) return product(x, fusion.residual);
    Tensor y = swiglu(g, product(x, {}));
    return fusion.residual ? add(g, fusion.residual, y, label + ".residual") : y;
}

}  // namespace vkqat
