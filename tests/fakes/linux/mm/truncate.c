// SPDX-License-Identifier: GPL-2.0
int truncate_1;
int truncate_2;
int truncate_3;
int truncate_4;
int truncate_5;
int truncate_6;
int truncate_7;
int truncate_8;
int truncate_9;
int truncate_10;
