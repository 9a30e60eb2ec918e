// The dot product of two words' four signed bytes, as one instruction where the device has it (VK_KHR_shader_integer_dot_product,
// part of Vulkan 1.3; Capabilities::byte_dot).
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int signed_dot(uint a, uint b, spirv_literal int format);
#define BYTE_DOT(a, b) signed_dot(a, b, 0)
