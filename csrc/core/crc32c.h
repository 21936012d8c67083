#pragma once
// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), the checksum of packets and files.
#include <cstddef>
#include <cstdint>

namespace scrimp {

// Continues `crc` (0 to begin) over n bytes: crc32c(a + b) = crc32c(b, crc32c(a)). By the instructions of the CPU where it
// has them (SSE4.2, Armv8 CRC), else by table.
std::uint32_t crc32c(const std::uint8_t* data, std::size_t n, std::uint32_t crc);

// The same, by table.
std::uint32_t crc32c_by_table(const std::uint8_t* data, std::size_t n, std::uint32_t crc);

}  // namespace scrimp
