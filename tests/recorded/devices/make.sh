#!/bin/sh
# Makes nodes, and treats them as files are treated. In an empty directory.
set -e
mkdir d t
cd d
mknod null c 1 3
mknod -m 640 loop b 7 0
chown root:disk loop
mknod -m 600 ptmx c 5 2
mknod big b 259 70000
cp -a null copy
mv loop moved
ln ptmx linked
chmod 604 null
chown daemon copy
stat -c '%n %F %t:%T %u:%g %a %h' * >../seen
cd ..
tar c d | tar x -C t
ls -lnR --time-style=+ d t | grep -v ^total >listed
find . -type d | sort >found
