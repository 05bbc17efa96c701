// SPDX-License-Identifier: GPL-2.0
int namei_1;
int namei_2;
int namei_3;
int namei_4;
int namei_5;
int namei_6;
int namei_7;
int namei_8;
int namei_9;
int namei_10;
