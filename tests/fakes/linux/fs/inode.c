// SPDX-License-Identifier: GPL-2.0
int inode_1;
int inode_2;
int inode_3;
int inode_4;
int inode_5;
int inode_6;
int inode_7;
int inode_8;
int inode_9;
int inode_10;
