#!/bin/sh
# Finish the image's root file system: called by mmdebstrap with its directory, and with where to
# put what the emulator boots. See image.py.
set -eu
root=$1 out=$2 size=$3

# --- the kernel: outside of the image, without an initial ramdisk, with the modules that are used
chroot "$root" sh -eu -c '
    cd /tmp
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n "s/^ *Depends: \(linux-image-[0-9].*\)/\1/p")
    apt-get download -qq "$package" 2>/dev/null
    dpkg-deb --extract linux-image-*.deb kernel
    rm linux-image-*.deb'
kernel=$root/tmp/kernel
version=$(basename "$kernel"/lib/modules/*)
cp "$kernel/boot/vmlinuz-$version" "$out/vmlinuz"
chmod 0644 "$out/vmlinuz"
cp "$kernel/lib/modules/$version"/modules.builtin* "$kernel/lib/modules/$version/modules.order" "$root/tmp/"
chroot "$root" depmod --basedir /tmp/kernel "$version"
for module in virtio_pci virtio_blk virtio_net virtio_rng dm_mod dm_crypt dm_snapshot loop xfs \
    xts ecb cbc aesni_intel sha256_ssse3 algif_skcipher algif_hash nls_utf8 isofs iscsi_tcp sd_mod efivarfs; do
    chroot "$root" modprobe --dirname /tmp/kernel --set-version "$version" --show-depends "$module" || true
done 2>/dev/null | sed -n "s|^insmod ||p" | sort -u | while read -r path _; do
    install -D -m 0644 "$root$path" "$root${path#/tmp/kernel}"
done
mv "$root"/tmp/modules.* "$root/lib/modules/$version/"
chroot "$root" depmod "$version"
rm -rf "$kernel"
printf 'virtio_net\nvirtio_blk\n' >"$root/etc/modules-load.d/lab.conf"

# --- the machine: one root disk, one card, ssh for root
echo '/dev/nvme0n1 / ext4 defaults,noatime 0 1' >"$root/etc/fstab"
echo lab >"$root/etc/hostname"
printf '127.0.0.1 localhost\n10.0.2.100 keys.lab\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf" "$root/etc/machine-id"
: >"$root/etc/machine-id"
cat >"$root/etc/systemd/network/10-lab.network" <<'UNIT'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
UNIT
mkdir -p "$root/etc/ssh/sshd_config.d" "$root/root/.ssh"
printf 'UsePAM no\nUseDNS no\nPermitRootLogin prohibit-password\n' >"$root/etc/ssh/sshd_config.d/lab.conf"
rm -f "$root"/etc/ssh/ssh_host_*
cp "$out/ssh/host" "$root/etc/ssh/ssh_host_ed25519_key"
cp "$out/ssh/host.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
cp "$out/ssh/user.pub" "$root/root/.ssh/authorized_keys"
chmod 0700 "$root/root/.ssh"
chmod 0600 "$root/root/.ssh/authorized_keys" "$root/etc/ssh/ssh_host_ed25519_key"
for unit in systemd-networkd.service ssh.service; do chroot "$root" systemctl --quiet enable "$unit"; done
# Only the tests of iSCSI need them, and enable them; the rest boots as if they were not there.
chroot "$root" systemctl --quiet disable iscsid.socket open-iscsi.service tgt.service
echo GenerateName=yes >"$root/etc/iscsi/initiatorname.iscsi"
# What no test needs and an emulated processor takes seconds for.
chroot "$root" systemctl --quiet mask getty@tty1.service serial-getty@ttyS0.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service \
    systemd-timesyncd.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=32M\n' >"$root/etc/systemd/journald.conf.d/lab.conf"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/locale/*

rm -f "$out/root.img"
truncate --size "$size" "$out/root.img"
# Seen through a second mount, which lacks the /proc and /sys that are mounted on the first.
mkdir "$out/bare"
mount --bind "$root" "$out/bare"
mke2fs -q -t ext4 -E lazy_itable_init=1,root_owner=0:0 -d "$out/bare" "$out/root.img" || failed=$?
umount "$out/bare"
rmdir "$out/bare"
exit "${failed:-0}"
