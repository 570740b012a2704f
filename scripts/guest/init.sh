#!/bin/sh
# First process of a netbe test guest (busybox ash). Loads the NIC drivers, then obeys the port that
# the kernel command line names (netbe.port=ttyS0): each line is a length and a shell command of that length.
# Says on the port
#
#   @netbe ready                 after boot
#   ...output...                 of the command, both streams
#   @netbe done STATUS           on a line of its own, after each command
#   @netbe again                 likewise, where a busy guest lost characters of the line
#
# A port that hangs up is the end of the host: the guest powers off.
export PATH=/bin HOME=/ TERM=dumb

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys

port=
read -r cmdline < /proc/cmdline
for word in $cmdline; do
  case $word in netbe.port=*) port=${word#*=} ;; esac
done

while read -r module; do load "$module"; done < /modules/boot
# A quiet network, so that tests may count frames: who wants IPv6 switches it on for an interface.
for conf in /proc/sys/net/ipv6/conf/*; do [ ! -d "$conf" ] || echo 1 > "$conf/disable_ipv6"; done
ip link set lo up

stty -F "/dev/$port" raw -echo
exec 3<> "/dev/$port"
printf '@netbe ready\n' >&3
while read -r length line <&3; do
  if [ "$length" != "${#line}" ]; then
    printf '\n@netbe again\n' >&3
    continue
  fi
  sh -c "$line" < /dev/null >&3 2>&1
  printf '\n@netbe done %d\n' $? >&3
done
poweroff -f
