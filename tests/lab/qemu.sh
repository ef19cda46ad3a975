# shellcheck shell=bash
# qemu.sh - what the scripts that boot a full virtual machine share: QEMU and a kernel, unpacked below $LAB_HOME/qemu, not
# installed, because installing QEMU can conflict with what the machine has. To be sourced; LAB_HOME is set.
Q=$LAB_HOME/qemu

fetch() { # QEMU 7.2 and the cloud kernel of bookworm
  [ ! -e "$Q/.fetched" ] || return 0
  say "fetching QEMU and a kernel"
  local kernel
  mkdir -p "$Q/debs" "$Q/x"; chmod 777 "$Q/debs"; cd "$Q/debs"   # apt downloads as a user of its own
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends/ {print $2}')
  apt-get download -q "$kernel" busybox-static qemu-system-x86 qemu-system-common qemu-system-data seabios ipxe-qemu \
    libslirp0 libfdt1 liburing2 libpmem1 libvdeplug2 libcapstone4 libaio1 libndctl6 libdaxctl1 libibverbs1 \
    librdmacm1 libbpf1 libfuse3-3 libnl-3-200 libnl-route-3-200 > "$Q/fetch.log" 2>&1 || { cat "$Q/fetch.log"; exit 1; }
  for deb in *.deb; do dpkg-deb -x "$deb" "$Q/x"; done
  depmod -b "$Q/x" "$(ls "$Q/x/lib/modules")"
  cd "$Q"; rm -rf "$Q/debs"; : > "$Q/.fetched"
}

make_initrd() { # as little as finds the disk
  local ir=$Q/initrd i=0 module version; version=$(ls "$Q/x/lib/modules")
  rm -rf "$ir"; mkdir -p "$ir"/{bin,lib,proc,sys,dev,r}; cp "$Q/x/bin/busybox" "$ir/bin/"
  for name in virtio_blk virtio_pci ext4; do
    modprobe -d "$Q/x" -S "$version" --show-depends $name | awk '/^insmod/ {print $2}'; done | awk '!seen[$0]++' |
    while read -r module; do i=$((i + 1)); cp "$module" "$ir/lib/$(printf %02d $i)-${module##*/}"; done
  cat > "$ir/init" <<'S'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc; /bin/busybox mount -t sysfs sys /sys; /bin/busybox mount -t devtmpfs dev /dev
for module in /lib/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t ext4 /dev/vda /r
for m in proc sys dev; do /bin/busybox umount -l /$m; done
exec /bin/busybox switch_root /r /sbin/init
S
  chmod +x "$ir/init"; (cd "$ir"; find . | "$Q/x/bin/busybox" cpio -o -H newc 2>/dev/null) | gzip > "$Q/initrd.img"
}

accelerator() { # KVM where it is there, else emulated, 10-20 times slower
  if [ -w /dev/kvm ] && grep -qE 'vmx|svm' /proc/cpuinfo; then echo kvm; else echo tcg,thread=multi,tb-size=256; fi
}

qemu() { # ACCELERATOR DISK CONSOLE ARGUMENTS...; its second serial port is standard output
  local accelerator=$1 disk=$2 console=$3; shift 3
  LD_LIBRARY_PATH=$Q/x/usr/lib/x86_64-linux-gnu:$Q/x/lib/x86_64-linux-gnu exec \
    "$Q/x/usr/bin/qemu-system-x86_64" -L "$Q/x/usr/share/qemu" -L "$Q/x/usr/share/seabios" -accel "$accelerator" -cpu max \
    -smp 2 -nographic -nodefaults -no-reboot -serial "file:$console" -serial stdio -kernel "$Q"/x/boot/vmlinuz-* -initrd "$Q/initrd.img" \
    -append "console=ttyS0 quiet mitigations=off apparmor=0 systemd.show_status=no systemd.unified_cgroup_hierarchy=1" \
    -drive "file=$disk,if=virtio,format=raw,cache=unsafe" "$@" < /dev/null
}
