#include "engine/arena.h"

#include <cerrno>
#include <system_error>

#include "core/check.h"
#include "engine/control.h"
#include "engine/os.h"

#ifdef __linux__
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#endif

namespace scrimp {

#ifdef __linux__

namespace {

constexpr std::size_t kPage = 4096;

std::size_t in_pages(std::size_t nbytes) { return (nbytes + kPage - 1) / kPage * kPage; }

void punch(int fd, std::size_t at, std::size_t nbytes) {
  fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at), static_cast<off_t>(nbytes));
}

}  // namespace

std::shared_ptr<std::byte> Arena::allocate(std::size_t nbytes) {
  const std::lock_guard lock(mutex_);
  nbytes = in_pages(nbytes ? nbytes : 1);
  const std::size_t at = find_room(nbytes);
  require(at + nbytes <= Layout::kStride, "arrays of one rank in the segment are limited to ", Layout::kStride, " bytes");
  const int error = posix_fallocate(segment_->fd(), static_cast<off_t>(begin_ + at), static_cast<off_t>(nbytes));
  void* data = error ? MAP_FAILED
                     : mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, segment_->fd(),
                            static_cast<off_t>(begin_ + at));
  if (data == MAP_FAILED) {
    const int why = error ? error : errno;
    punch(segment_->fd(), begin_ + at, nbytes);
    throw std::system_error(why, std::generic_category(), "cannot allocate shared memory");
  }
  arrays_[at] = {nbytes, static_cast<std::byte*>(data)};
  return {static_cast<std::byte*>(data), [arena = shared_from_this(), at](std::byte*) { arena->release(at); }};
}

void Arena::release(std::size_t at) {
  const std::lock_guard lock(mutex_);
  const Array array = arrays_.at(at);
  munmap(array.data, array.nbytes);
  punch(segment_->fd(), begin_ + at, array.nbytes);
  arrays_.erase(at);
}

#else

std::shared_ptr<std::byte> Arena::allocate(std::size_t) { unsupported_engine(); }
void Arena::release(std::size_t) {}

#endif

// The first gap that is large enough.
std::size_t Arena::find_room(std::size_t nbytes) const {
  std::size_t at = 0;
  for (const auto& [begin, array] : arrays_) {
    if (begin - at >= nbytes) break;
    at = begin + array.nbytes;
  }
  return at;
}

std::uint64_t Arena::offset(const void* data, std::size_t nbytes) {
  const std::lock_guard lock(mutex_);
  const auto* p = static_cast<const std::byte*>(data);
  for (const auto& [at, array] : arrays_)
    if (p >= array.data && p + nbytes <= array.data + array.nbytes) return at + static_cast<std::size_t>(p - array.data);
  return kElsewhere;
}

std::size_t Arena::nbytes() {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [at, array] : arrays_) total += array.nbytes;
  return total;
}

}  // namespace scrimp
