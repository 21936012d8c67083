#include "engine/segment.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/check.h"
#include "engine/os.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace scrimp {

#ifdef __linux__

namespace {

[[noreturn]] void fail(int error, const char* what) { throw std::system_error(error, std::generic_category(), what); }

}  // namespace

Segment Segment::create(std::size_t nbytes) {
  require(nbytes > 0, "a segment needs at least one byte");
  const int fd = memfd_create("scrimp", MFD_CLOEXEC);
  if (fd < 0) fail(errno, "cannot create shared memory");
  // posix_fallocate, not ftruncate: the latter promises pages that a full machine cannot deliver.
  const int error = posix_fallocate(fd, 0, static_cast<off_t>(nbytes));
  if (error) {
    ::close(fd);
    fail(error, "cannot allocate shared memory");
  }
  return {fd, nbytes};
}

Segment Segment::open(int fd) {
  struct stat info;
  if (fstat(fd, &info) != 0) fail(errno, "cannot open shared memory");
  return {fd, static_cast<std::size_t>(info.st_size)};
}

Segment::Segment(int fd, std::size_t nbytes) : fd_(fd), data_(nullptr), nbytes_(nbytes) {
  void* memory = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    fail(error, "cannot map shared memory");
  }
  data_ = static_cast<std::byte*>(memory);
}

Segment::Segment(Segment&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), data_(std::exchange(other.data_, nullptr)), nbytes_(other.nbytes_) {}

Segment::~Segment() {
  if (data_) munmap(data_, nbytes_);
  if (fd_ >= 0) ::close(fd_);
}

bool engine_supported() {
  const int fd = open_pidfd(getpid());
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

#else

Segment Segment::create(std::size_t) { unsupported_engine(); }
Segment Segment::open(int) { unsupported_engine(); }
Segment::Segment(int fd, std::size_t nbytes) : fd_(fd), data_(nullptr), nbytes_(nbytes) {}
Segment::Segment(Segment&& other) noexcept : fd_(other.fd_), data_(other.data_), nbytes_(other.nbytes_) {}
Segment::~Segment() = default;
bool engine_supported() { return false; }

#endif

}  // namespace scrimp
