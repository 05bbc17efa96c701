// SPDX-License-Identifier: GPL-2.0
int filemap_1;
int filemap_2;
int filemap_3;
int filemap_4;
int filemap_5;
int filemap_6;
int filemap_7;
int filemap_8;
int filemap_9;
int filemap_10;
