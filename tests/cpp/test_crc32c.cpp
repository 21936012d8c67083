// The checksum: its defining value, every length and alignment against the table, continuation.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/crc32c.h"

namespace scrimp {
namespace {

TEST(Crc32c, HasTheCheckValueOfCastagnoli) {
  const std::uint8_t digits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  EXPECT_EQ(crc32c(digits, 9, 0), 0xe3069283u);
  EXPECT_EQ(crc32c_by_table(digits, 9, 0), 0xe3069283u);
}

TEST(Crc32c, InstructionsEqualTheTableAtEveryLengthAndAlignment) {
  std::mt19937 generator(1);
  std::vector<std::uint8_t> bytes(8192 + 16);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator());
  for (std::size_t n = 0; n < 8192; n = n < 40 ? n + 1 : n + 1 + n / 29)
    for (std::size_t at : {0, 1, 7, 8}) EXPECT_EQ(crc32c(&bytes[at], n, 77), crc32c_by_table(&bytes[at], n, 77)) << n;
}

TEST(Crc32c, PartsContinue) {
  std::vector<std::uint8_t> bytes(5000, 0xa5);
  for (std::size_t cut : {0, 1, 511, 1536, 4999})
    EXPECT_EQ(crc32c(&bytes[cut], 5000 - cut, crc32c(bytes.data(), cut, 0)), crc32c(bytes.data(), 5000, 0));
}

}  // namespace
}  // namespace scrimp
