#!/bin/sh
# What `make check-vulkan` needs besides a compiler: glslc, a loader, a driver, and headers of Vulkan 1.3.268 or newer, which it
# puts into FOLDER. Debian's packages are installed, by root; of bookworm, whose headers are older, those of the next release are
# unpacked into FOLDER alone.
#
#     sh tests/native/vulkan.sh FOLDER
set -eu
folder=$1
packages="glslc libvulkan-dev mesa-vulkan-drivers spirv-headers"
new_enough() {
    printf '#include <vulkan/vulkan_core.h>\n_Static_assert(VK_HEADER_VERSION_COMPLETE >= VK_MAKE_API_VERSION(0, 1, 3, 268), "");\n' |
        cc -x c -fsyntax-only -I"$1" - 2>/dev/null
}
fail() {
    echo "check-vulkan: expected $1" >&2
    exit 1
}

if ! command -v glslc >/dev/null || ! [ -e /usr/include/vulkan/vulkan_core.h ] || ! [ -e /usr/include/spirv/unified1/spirv.hpp ]; then
    command -v apt-get >/dev/null || fail "glslc, Vulkan's loader, a driver and the headers of SPIR-V, got not all of them; install them"
    [ "$(id -u)" = 0 ] || fail "the packages $packages, got not all of them; apt-get install $packages"
    apt-get install -y -q $packages
fi
work=$(mktemp -d)
trap 'rm -rf "$work"; new_enough "$folder" || rm -rf "$folder"' EXIT
rm -rf "$folder"
mkdir -p "$folder"
cp -r /usr/include/vulkan /usr/include/vk_video "$folder"
new_enough "$folder" && exit
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[.*\] \)\?\([^ ]*\).*/\2/p' | head -n 1)
[ -n "$mirror" ] || fail "Vulkan headers of 1.3.268 or newer, got older ones; unpack newer ones into $folder"
mkdir "$work/lists"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
options="-q -o Dir::Etc::sourcelist=$work/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/lists -o APT::Sandbox::User=root"
apt-get $options update
(cd "$work" && apt-get $options download libvulkan-dev)
dpkg -x "$work"/libvulkan-dev*.deb "$work/package"
cp -r "$work"/package/usr/include/vulkan "$work"/package/usr/include/vk_video "$folder"
new_enough "$folder" || fail "Vulkan headers of 1.3.268 or newer at $mirror, got older ones; unpack newer ones into $folder"
