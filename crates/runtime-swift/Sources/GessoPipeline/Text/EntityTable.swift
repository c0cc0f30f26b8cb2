/// `name;code+code` of each HTML entity that is decoded, separated by white space; the words are those of
/// `crates/pipeline/data/html_entities.txt`, which a test compares.
let entityTable = """
  AACUTE;c1 ABREVE;102 AC;223e ACD;223f ACIRC;c2 ACUTE;b4 ACY;410 AELIG;c6 AElig;c6 AF;2061 AFR;1d51e AGRAVE;c0
  ALEFSYM;2135 ALEPH;2135 ALPHA;391 AMACR;100 AMALG;2a3f AMP;26 AND;2227 ANDAND;2a55 ANDD;2a5c ANDSLOPE;2a58 ANDV;2a5a
  ANG;2220 ANGE;29a4 ANGLE;2220 ANGMSD;2221 ANGMSDAA;29a8 ANGMSDAB;29a9 ANGMSDAC;29aa ANGMSDAD;29ab ANGMSDAE;29ac
  ANGMSDAF;29ad ANGMSDAG;29ae ANGMSDAH;29af ANGRT;221f ANGRTVB;22be ANGRTVBD;299d ANGSPH;2222 ANGST;c5 ANGZARR;237c
  AOGON;104 AOPF;1d552 AP;2248 APACIR;2a6f APE;224a APID;224b APOS;27 APPROX;2248 APPROXEQ;224a ARING;c5 ASCR;1d4b6
  AST;2a ASYMP;2248 ASYMPEQ;224d ATILDE;c3 AUML;c4 AWCONINT;2233 AWINT;2a11 Aacute;c1 Abreve;102 Acirc;c2 Acy;410
  Afr;1d504 Agrave;c0 Alpha;391 Amacr;100 And;2a53 Aogon;104 Aopf;1d538 ApplyFunction;2061 Aring;c5 Ascr;1d49c
  Assign;2254 Atilde;c3 Auml;c4 BACKCONG;224c BACKEPSILON;3f6 BACKPRIME;2035 BACKSIM;223d BACKSIMEQ;22cd BARVEE;22bd
  BARWED;2305 BARWEDGE;2305 BBRK;23b5 BBRKTBRK;23b6 BCONG;224c BCY;411 BDQUO;201e BECAUS;2235 BECAUSE;2235 BEMPTYV;29b0
  BEPSI;3f6 BERNOU;212c BETA;392 BETH;2136 BETWEEN;226c BFR;1d51f BIGCAP;22c2 BIGCIRC;25ef BIGCUP;22c3 BIGODOT;2a00
  BIGOPLUS;2a01 BIGOTIMES;2a02 BIGSQCUP;2a06 BIGSTAR;2605 BIGTRIANGLEDOWN;25bd BIGTRIANGLEUP;25b3 BIGUPLUS;2a04
  BIGVEE;22c1 BIGWEDGE;22c0 BKAROW;290d BLACKLOZENGE;29eb BLACKSQUARE;25aa BLACKTRIANGLE;25b4 BLACKTRIANGLEDOWN;25be
  BLACKTRIANGLELEFT;25c2 BLACKTRIANGLERIGHT;25b8 BLANK;2423 BLK12;2592 BLK14;2591 BLK34;2593 BLOCK;2588 BNE;3d+20e5
  BNEQUIV;2261+20e5 BNOT;2310 BOPF;1d553 BOT;22a5 BOTTOM;22a5 BOWTIE;22c8 BOXBOX;29c9 BOXDL;2510 BOXDR;250c BOXH;2500
  BOXHD;252c BOXHU;2534 BOXMINUS;229f BOXPLUS;229e BOXTIMES;22a0 BOXUL;2518 BOXUR;2514 BOXV;2502 BOXVH;253c BOXVL;2524
  BOXVR;251c BPRIME;2035 BREVE;2d8 BRVBAR;a6 BSCR;1d4b7 BSEMI;204f BSIM;223d BSIME;22cd BSOL;5c BSOLB;29c5 BSOLHSUB;27c8
  BULL;2022 BULLET;2022 BUMP;224e BUMPE;224f BUMPEQ;224f Backslash;2216 Barv;2ae7 Barwed;2306 Bcy;411 Because;2235
  Bernoullis;212c Beta;392 Bfr;1d505 Bopf;1d539 Breve;2d8 Bscr;212c Bumpeq;224e CACUTE;106 CAP;2229 CAPAND;2a44
  CAPBRCUP;2a49 CAPCAP;2a4b CAPCUP;2a47 CAPDOT;2a40 CAPS;2229+fe00 CARET;2041 CARON;2c7 CCAPS;2a4d CCARON;10c CCEDIL;c7
  CCIRC;108 CCUPS;2a4c CCUPSSM;2a50 CDOT;10a CEDIL;b8 CEMPTYV;29b2 CENT;a2 CENTERDOT;b7 CFR;1d520 CHCY;427 CHECK;2713
  CHECKMARK;2713 CHI;3a7 CHcy;427 CIR;25cb CIRC;2c6 CIRCEQ;2257 CIRCLEARROWLEFT;21ba CIRCLEARROWRIGHT;21bb
  CIRCLEDAST;229b CIRCLEDCIRC;229a CIRCLEDDASH;229d CIRE;2257 CIRFNINT;2a10 CIRMID;2aef CIRSCIR;29c2 CLUBS;2663
  CLUBSUIT;2663 COLON;3a COLONE;2254 COLONEQ;2254 COMMA;2c COMMAT;40 COMP;2201 COMPFN;2218 COMPLEMENT;2201
  COMPLEXES;2102 CONG;2245 CONGDOT;2a6d CONINT;222e COPF;1d554 COPROD;2210 COPY;a9 CRARR;21b5 CROSS;2717 CSCR;1d4b8
  CSUB;2acf CSUBE;2ad1 CSUP;2ad0 CSUPE;2ad2 CTDOT;22ef CUDARRL;2938 CUDARRR;2935 CUEPR;22de CUESC;22df CULARR;21b6
  CULARRP;293d CUP;222a CUPBRCAP;2a48 CUPCAP;2a46 CUPCUP;2a4a CUPDOT;228d CUPOR;2a45 CUPS;222a+fe00 CURARR;21b7
  CURARRM;293c CURLYEQPREC;22de CURLYEQSUCC;22df CURLYVEE;22ce CURLYWEDGE;22cf CURREN;a4 CURVEARROWLEFT;21b6
  CURVEARROWRIGHT;21b7 CUVEE;22ce CUWED;22cf CWCONINT;2232 CWINT;2231 CYLCTY;232d Cacute;106 Cap;22d2
  CapitalDifferentialD;2145 Cayleys;212d Ccaron;10c Ccedil;c7 Ccirc;108 Cconint;2230 Cdot;10a Cedilla;b8 CenterDot;b7
  Cfr;212d Chi;3a7 CircleDot;2299 CircleMinus;2296 CirclePlus;2295 CircleTimes;2297 ClockwiseContourIntegral;2232
  CloseCurlyDoubleQuote;201d CloseCurlyQuote;2019 Colon;2237 Colone;2a74 Congruent;2261 Conint;222f ContourIntegral;222e
  Copf;2102 Coproduct;2210 Cross;2a2f Cscr;1d49e Cup;22d3 CupCap;224d DAGGER;2020 DALETH;2138 DARR;2193 DASH;2010
  DASHV;22a3 DBKAROW;290f DBLAC;2dd DCARON;10e DCY;414 DD;2145 DDAGGER;2021 DDARR;21ca DDOTSEQ;2a77 DDotrahd;2911 DEG;b0
  DELTA;394 DEMPTYV;29b1 DFISHT;297f DFR;1d521 DHARL;21c3 DHARR;21c2 DIAM;22c4 DIAMOND;22c4 DIAMONDSUIT;2666 DIAMS;2666
  DIE;a8 DIGAMMA;3dc DISIN;22f2 DIV;f7 DIVIDE;f7 DIVIDEONTIMES;22c7 DIVONX;22c7 DJCY;402 DJcy;402 DLCORN;231e
  DLCROP;230d DOLLAR;24 DOPF;1d555 DOT;2d9 DOTEQ;2250 DOTEQDOT;2251 DOTMINUS;2238 DOTPLUS;2214 DOTSQUARE;22a1
  DOUBLEBARWEDGE;2306 DOWNARROW;2193 DOWNDOWNARROWS;21ca DOWNHARPOONLEFT;21c3 DOWNHARPOONRIGHT;21c2 DRBKAROW;2910
  DRCORN;231f DRCROP;230c DSCR;1d4b9 DSCY;405 DSOL;29f6 DSTROK;110 DScy;405 DTDOT;22f1 DTRI;25bf DTRIF;25be DUARR;21f5
  DUHAR;296f DWANGLE;29a6 DZCY;40f DZIGRARR;27ff DZcy;40f Dagger;2021 Darr;21a1 Dashv;2ae4 Dcaron;10e Dcy;414 Del;2207
  Delta;394 Dfr;1d507 DiacriticalAcute;b4 DiacriticalDot;2d9 DiacriticalDoubleAcute;2dd DiacriticalGrave;60
  DiacriticalTilde;2dc Diamond;22c4 DifferentialD;2146 Dopf;1d53b Dot;a8 DotDot;20dc DotEqual;2250
  DoubleContourIntegral;222f DoubleDot;a8 DoubleDownArrow;21d3 DoubleLeftArrow;21d0 DoubleLeftRightArrow;21d4
  DoubleLeftTee;2ae4 DoubleLongLeftArrow;27f8 DoubleLongLeftRightArrow;27fa DoubleLongRightArrow;27f9
  DoubleRightArrow;21d2 DoubleRightTee;22a8 DoubleUpArrow;21d1 DoubleUpDownArrow;21d5 DoubleVerticalBar;2225
  DownArrow;2193 DownArrowBar;2913 DownArrowUpArrow;21f5 DownBreve;311 DownLeftRightVector;2950 DownLeftTeeVector;295e
  DownLeftVector;21bd DownLeftVectorBar;2956 DownRightTeeVector;295f DownRightVector;21c1 DownRightVectorBar;2957
  DownTee;22a4 DownTeeArrow;21a7 Downarrow;21d3 Dscr;1d49f Dstrok;110 EACUTE;c9 EASTER;2a6e ECARON;11a ECIR;2256
  ECIRC;ca ECOLON;2255 ECY;42d EDOT;116 EE;2147 EFR;1d522 EG;2a9a EGRAVE;c8 EGS;2a96 EGSDOT;2a98 EL;2a99 ELINTERS;23e7
  ELL;2113 ELS;2a95 ELSDOT;2a97 EMACR;112 EMPTY;2205 EMPTYSET;2205 EMPTYV;2205 EMSP13;2004 EMSP14;2005 EMSP;2003 ENG;14a
  ENSP;2002 EOGON;118 EOPF;1d556 EPAR;22d5 EPARSL;29e3 EPLUS;2a71 EPSI;395 EPSILON;395 EPSIV;395 EQCIRC;2256
  EQCOLON;2255 EQSIM;2242 EQSLANTGTR;2a96 EQSLANTLESS;2a95 EQUALS;3d EQUEST;225f EQUIV;2261 EQVPARSL;29e5 ERARR;2971
  ESCR;212f ESDOT;2250 ESIM;2242 ETA;397 ETH;d0 EUML;cb EURO;20ac EXCL;21 EXIST;2203 EXPECTATION;2130 EXPONENTIALE;2147
  Eacute;c9 Ecaron;11a Ecirc;ca Ecy;42d Edot;116 Efr;1d508 Egrave;c8 Element;2208 Emacr;112 EmptySmallSquare;25fb
  EmptyVerySmallSquare;25ab Eogon;118 Eopf;1d53c Epsilon;395 Equal;2a75 EqualTilde;2242 Equilibrium;21cc Escr;2130
  Esim;2a73 Eta;397 Euml;cb Exists;2203 ExponentialE;2147 FALLINGDOTSEQ;2252 FCY;424 FEMALE;2640 FFILIG;46+46+49
  FFLIG;46+46 FFLLIG;46+46+4c FFR;1d523 FILIG;46+49 FJLIG;46+4a FLAT;266d FLLIG;46+4c FLTNS;25b1 FNOF;191 FOPF;1d557
  FORALL;2200 FORK;22d4 FORKV;2ad9 FPARTINT;2a0d FRAC12;bd FRAC13;2153 FRAC14;bc FRAC15;2155 FRAC16;2159 FRAC18;215b
  FRAC23;2154 FRAC25;2156 FRAC34;be FRAC35;2157 FRAC38;215c FRAC45;2158 FRAC56;215a FRAC58;215d FRAC78;215e FRASL;2044
  FROWN;2322 FSCR;1d4bb Fcy;424 Ffr;1d509 FilledSmallSquare;25fc FilledVerySmallSquare;25aa Fopf;1d53d ForAll;2200
  Fouriertrf;2131 Fscr;2131 GACUTE;1f4 GAMMA;393 GAMMAD;3dc GAP;2a86 GBREVE;11e GCIRC;11c GCY;413 GDOT;120 GE;2265
  GEL;22db GEQ;2265 GEQQ;2267 GEQSLANT;2a7e GES;2a7e GESCC;2aa9 GESDOT;2a80 GESDOTO;2a82 GESDOTOL;2a84 GESL;22db+fe00
  GESLES;2a94 GFR;1d524 GG;226b GGG;22d9 GIMEL;2137 GJCY;403 GJcy;403 GL;2277 GLA;2aa5 GLJ;2aa4 GNAP;2a8a GNAPPROX;2a8a
  GNE;2a88 GNEQ;2a88 GNEQQ;2269 GNSIM;22e7 GOPF;1d558 GRAVE;60 GSCR;210a GSIM;2273 GSIME;2a8e GSIML;2a90 GT;3e
  GVERTNEQQ;2269+fe00 Gamma;393 Gammad;3dc Gbreve;11e Gcedil;122 Gcirc;11c Gcy;413 Gdot;120 Gfr;1d50a Gg;22d9 Gopf;1d53e
  GreaterEqual;2265 GreaterEqualLess;22db GreaterFullEqual;2267 GreaterGreater;2aa2 GreaterLess;2277
  GreaterSlantEqual;2a7e GreaterTilde;2273 Gscr;1d4a2 Gt;226b HAIRSP;200a HALF;bd HAMILT;210b HARDCY;42a HARDcy;42a
  HARR;2194 HARRCIR;2948 HARRW;21ad HBAR;210f HCIRC;124 HEARTS;2665 HEARTSUIT;2665 HELLIP;2026 HERCON;22b9 HFR;1d525
  HKSEAROW;2925 HKSWAROW;2926 HOARR;21ff HOMTHT;223b HOOKLEFTARROW;21a9 HOOKRIGHTARROW;21aa HOPF;1d559 HORBAR;2015
  HSCR;1d4bd HSLASH;210f HSTROK;126 HYBULL;2043 HYPHEN;2010 Hacek;2c7 Hat;5e Hcirc;124 Hfr;210c HilbertSpace;210b
  Hopf;210d HorizontalLine;2500 Hscr;210b Hstrok;126 HumpDownHump;224e HumpEqual;224f IACUTE;cd IC;2063 ICIRC;ce ICY;418
  IECY;415 IEXCL;a1 IEcy;415 IFF;21d4 IFR;1d526 IGRAVE;cc II;2148 IIIINT;2a0c IIINT;222d IINFIN;29dc IIOTA;2129
  IJLIG;132 IJlig;132 IMACR;12a IMAGE;2111 IMAGLINE;2110 IMAGPART;2111 IMATH;49 IMOF;22b7 IMPED;1b5 IN;2208 INCARE;2105
  INFIN;221e INFINTIE;29dd INODOT;49 INT;222b INTCAL;22ba INTEGERS;2124 INTERCAL;22ba INTLARHK;2a17 INTPROD;2a3c
  IOCY;401 IOGON;12e IOPF;1d55a IOTA;399 IOcy;401 IPROD;2a3c IQUEST;bf ISCR;1d4be ISIN;2208 ISINDOT;22f5 ISINS;22f4
  ISINSV;22f3 ISINV;2208 IT;2062 ITILDE;128 IUKCY;406 IUML;cf Iacute;cd Icirc;ce Icy;418 Idot;130 Ifr;2111 Igrave;cc
  Im;2111 Imacr;12a ImaginaryI;2148 Implies;21d2 Int;222c Integral;222b Intersection;22c2 InvisibleComma;2063
  InvisibleTimes;2062 Iogon;12e Iopf;1d540 Iota;399 Iscr;2110 Itilde;128 Iukcy;406 Iuml;cf JCIRC;134 JCY;419 JFR;1d527
  JMATH;237 JOPF;1d55b JSCR;1d4bf JSERCY;408 JUKCY;404 Jcirc;134 Jcy;419 Jfr;1d50d Jopf;1d541 Jscr;1d4a5 Jsercy;408
  Jukcy;404 KAPPA;39a KAPPAV;39a KCEDIL;136 KCY;41a KFR;1d528 KGREEN;138 KHCY;425 KHcy;425 KJCY;40c KJcy;40c KOPF;1d55c
  KSCR;1d4c0 Kappa;39a Kcedil;136 Kcy;41a Kfr;1d50e Kopf;1d542 Kscr;1d4a6 LACUTE;139 LAEMPTYV;29b4 LAGRAN;2112
  LAMBDA;39b LANG;27e8 LANGD;2991 LANGLE;27e8 LAP;2a85 LAQUO;ab LARR;2190 LARRB;21e4 LARRBFS;291f LARRFS;291d
  LARRHK;21a9 LARRLP;21ab LARRPL;2939 LARRSIM;2973 LARRTL;21a2 LAT;2aab LATAIL;2919 LATE;2aad LATES;2aad+fe00 LBARR;290c
  LBBRK;2772 LBRACE;7b LBRACK;5b LBRKE;298b LBRKSLD;298f LBRKSLU;298d LCARON;13d LCEDIL;13b LCEIL;2308 LCUB;7b LCY;41b
  LDCA;2936 LDQUO;201c LDQUOR;201e LDRDHAR;2967 LDRUSHAR;294b LDSH;21b2 LE;2264 LEFTARROW;2190 LEFTARROWTAIL;21a2
  LEFTHARPOONDOWN;21bd LEFTHARPOONUP;21bc LEFTLEFTARROWS;21c7 LEFTRIGHTARROW;2194 LEFTRIGHTARROWS;21c6
  LEFTRIGHTHARPOONS;21cb LEFTRIGHTSQUIGARROW;21ad LEFTTHREETIMES;22cb LEG;22da LEQ;2264 LEQQ;2266 LEQSLANT;2a7d LES;2a7d
  LESCC;2aa8 LESDOT;2a7f LESDOTO;2a81 LESDOTOR;2a83 LESG;22da+fe00 LESGES;2a93 LESSAPPROX;2a85 LESSDOT;22d6
  LESSEQGTR;22da LESSEQQGTR;2a8b LESSGTR;2276 LESSSIM;2272 LFISHT;297c LFLOOR;230a LFR;1d529 LG;2276 LHARD;21bd
  LHARU;21bc LHARUL;296a LHBLK;2584 LJCY;409 LJcy;409 LL;226a LLARR;21c7 LLCORNER;231e LLHARD;296b LLTRI;25fa LMIDOT;13f
  LMOUST;23b0 LMOUSTACHE;23b0 LNAP;2a89 LNAPPROX;2a89 LNE;2a87 LNEQ;2a87 LNEQQ;2268 LNSIM;22e6 LOANG;27ec LOARR;21fd
  LOBRK;27e6 LONGLEFTARROW;27f5 LONGLEFTRIGHTARROW;27f7 LONGMAPSTO;27fc LONGRIGHTARROW;27f6 LOOPARROWLEFT;21ab
  LOOPARROWRIGHT;21ac LOPAR;2985 LOPF;1d55d LOPLUS;2a2d LOTIMES;2a34 LOWAST;2217 LOWBAR;5f LOZ;25ca LOZENGE;25ca
  LOZF;29eb LPAR;28 LPARLT;2993 LRARR;21c6 LRCORNER;231f LRHAR;21cb LRHARD;296d LRM;200e LRTRI;22bf LSAQUO;2039
  LSCR;1d4c1 LSH;21b0 LSIM;2272 LSIME;2a8d LSIMG;2a8f LSQB;5b LSQUO;2018 LSQUOR;201a LSTROK;141 LT;3c LURDSHAR;294a
  LURUHAR;2966 LVERTNEQQ;2268+fe00 Lacute;139 Lambda;39b Lang;27ea Laplacetrf;2112 Larr;219e Lcaron;13d Lcedil;13b
  Lcy;41b LeftAngleBracket;27e8 LeftArrow;2190 LeftArrowBar;21e4 LeftArrowRightArrow;21c6 LeftCeiling;2308
  LeftDoubleBracket;27e6 LeftDownTeeVector;2961 LeftDownVector;21c3 LeftDownVectorBar;2959 LeftFloor;230a
  LeftRightArrow;2194 LeftRightVector;294e LeftTee;22a3 LeftTeeArrow;21a4 LeftTeeVector;295a LeftTriangle;22b2
  LeftTriangleBar;29cf LeftTriangleEqual;22b4 LeftUpDownVector;2951 LeftUpTeeVector;2960 LeftUpVector;21bf
  LeftUpVectorBar;2958 LeftVector;21bc LeftVectorBar;2952 Leftarrow;21d0 Leftrightarrow;21d4 LessEqualGreater;22da
  LessFullEqual;2266 LessGreater;2276 LessLess;2aa1 LessSlantEqual;2a7d LessTilde;2272 Lfr;1d50f Ll;22d8 Lleftarrow;21da
  Lmidot;13f LongLeftArrow;27f5 LongLeftRightArrow;27f7 LongRightArrow;27f6 Longleftarrow;27f8 Longleftrightarrow;27fa
  Longrightarrow;27f9 Lopf;1d543 LowerLeftArrow;2199 LowerRightArrow;2198 Lscr;2112 Lsh;21b0 Lstrok;141 Lt;226a MACR;af
  MALE;2642 MALT;2720 MALTESE;2720 MAP;21a6 MAPSTO;21a6 MAPSTODOWN;21a7 MAPSTOLEFT;21a4 MAPSTOUP;21a5 MARKER;25ae
  MCOMMA;2a29 MCY;41c MDASH;2014 MEASUREDANGLE;2221 MFR;1d52a MHO;2127 MICRO;39c MID;2223 MIDAST;2a MIDCIR;2af0
  MIDDOT;b7 MINUS;2212 MINUSB;229f MINUSD;2238 MINUSDU;2a2a MLCP;2adb MLDR;2026 MNPLUS;2213 MODELS;22a7 MOPF;1d55e
  MP;2213 MSCR;1d4c2 MSTPOS;223e MU;39c MULTIMAP;22b8 MUMAP;22b8 Map;2905 Mcy;41c MediumSpace;205f Mellintrf;2133
  Mfr;1d510 MinusPlus;2213 Mopf;1d544 Mscr;2133 Mu;39c NABLA;2207 NACUTE;143 NANG;2220+20d2 NAP;2249 NAPID;224b+338
  NAPOS;2bc+4e NAPPROX;2249 NATUR;266e NATURAL;266e NATURALS;2115 NBSP;a0 NBUMP;224e+338 NBUMPE;224f+338 NCAP;2a43
  NCARON;147 NCEDIL;145 NCONG;2247 NCONGDOT;2a6d+338 NCUP;2a42 NCY;41d NDASH;2013 NE;2260 NEARHK;2924 NEARR;2197
  NEARROW;2197 NEDOT;2250+338 NEQUIV;2262 NESEAR;2928 NESIM;2242+338 NEXIST;2204 NEXISTS;2204 NFR;1d52b NGE;2271
  NGEQ;2271 NGEQQ;2267+338 NGEQSLANT;2a7e+338 NGES;2a7e+338 NGSIM;2275 NGT;226f NGTR;226f NHARR;21ae NHPAR;2af2 NI;220b
  NIS;22fc NISD;22fa NIV;220b NJCY;40a NJcy;40a NLARR;219a NLDR;2025 NLE;2270 NLEFTARROW;219a NLEFTRIGHTARROW;21ae
  NLEQ;2270 NLEQQ;2266+338 NLEQSLANT;2a7d+338 NLES;2a7d+338 NLESS;226e NLSIM;2274 NLT;226e NLTRI;22ea NLTRIE;22ec
  NMID;2224 NOPF;1d55f NOT;ac NOTIN;2209 NOTINDOT;22f5+338 NOTINVA;2209 NOTINVB;22f7 NOTINVC;22f6 NOTNI;220c
  NOTNIVA;220c NOTNIVB;22fe NOTNIVC;22fd NPAR;2226 NPARALLEL;2226 NPARSL;2afd+20e5 NPART;2202+338 NPOLINT;2a14 NPR;2280
  NPRCUE;22e0 NPRE;2aaf+338 NPREC;2280 NPRECEQ;2aaf+338 NRARR;219b NRARRC;2933+338 NRARRW;219d+338 NRIGHTARROW;219b
  NRTRI;22eb NRTRIE;22ed NSC;2281 NSCCUE;22e1 NSCE;2ab0+338 NSCR;1d4c3 NSHORTMID;2224 NSHORTPARALLEL;2226 NSIM;2241
  NSIME;2244 NSIMEQ;2244 NSMID;2224 NSPAR;2226 NSQSUBE;22e2 NSQSUPE;22e3 NSUB;2284 NSUBE;2288 NSUBSET;2282+20d2
  NSUBSETEQ;2288 NSUBSETEQQ;2ac5+338 NSUCC;2281 NSUCCEQ;2ab0+338 NSUP;2285 NSUPE;2289 NSUPSET;2283+20d2 NSUPSETEQ;2289
  NSUPSETEQQ;2ac6+338 NTGL;2279 NTILDE;d1 NTLG;2278 NTRIANGLELEFT;22ea NTRIANGLELEFTEQ;22ec NTRIANGLERIGHT;22eb
  NTRIANGLERIGHTEQ;22ed NU;39d NUM;23 NUMERO;2116 NUMSP;2007 NVAP;224d+20d2 NVDASH;22ac NVGE;2265+20d2 NVGT;3e+20d2
  NVINFIN;29de NVLE;2264+20d2 NVLT;3c+20d2 NVLTRIE;22b4+20d2 NVRTRIE;22b5+20d2 NVSIM;223c+20d2 NWARHK;2923 NWARR;2196
  NWARROW;2196 NWNEAR;2927 Nacute;143 Ncaron;147 Ncedil;145 Ncy;41d NegativeMediumSpace;200b NegativeThickSpace;200b
  NegativeThinSpace;200b NegativeVeryThinSpace;200b NestedGreaterGreater;226b NestedLessLess;226a NewLine;a Nfr;1d511
  NoBreak;2060 NonBreakingSpace;a0 Nopf;2115 Not;2aec NotCongruent;2262 NotCupCap;226d NotDoubleVerticalBar;2226
  NotElement;2209 NotEqual;2260 NotEqualTilde;2242+338 NotExists;2204 NotGreater;226f NotGreaterEqual;2271
  NotGreaterFullEqual;2267+338 NotGreaterGreater;226b+338 NotGreaterLess;2279 NotGreaterSlantEqual;2a7e+338
  NotGreaterTilde;2275 NotHumpDownHump;224e+338 NotHumpEqual;224f+338 NotLeftTriangle;22ea NotLeftTriangleBar;29cf+338
  NotLeftTriangleEqual;22ec NotLess;226e NotLessEqual;2270 NotLessGreater;2278 NotLessLess;226a+338
  NotLessSlantEqual;2a7d+338 NotLessTilde;2274 NotNestedGreaterGreater;2aa2+338 NotNestedLessLess;2aa1+338
  NotPrecedes;2280 NotPrecedesEqual;2aaf+338 NotPrecedesSlantEqual;22e0 NotReverseElement;220c NotRightTriangle;22eb
  NotRightTriangleBar;29d0+338 NotRightTriangleEqual;22ed NotSquareSubset;228f+338 NotSquareSubsetEqual;22e2
  NotSquareSuperset;2290+338 NotSquareSupersetEqual;22e3 NotSubset;2282+20d2 NotSubsetEqual;2288 NotSucceeds;2281
  NotSucceedsEqual;2ab0+338 NotSucceedsSlantEqual;22e1 NotSucceedsTilde;227f+338 NotSuperset;2283+20d2
  NotSupersetEqual;2289 NotTilde;2241 NotTildeEqual;2244 NotTildeFullEqual;2247 NotTildeTilde;2249 NotVerticalBar;2224
  Nscr;1d4a9 Ntilde;d1 Nu;39d OACUTE;d3 OAST;229b OCIR;229a OCIRC;d4 OCY;41e ODASH;229d ODBLAC;150 ODIV;2a38 ODOT;2299
  ODSOLD;29bc OELIG;152 OElig;152 OFCIR;29bf OFR;1d52c OGON;2db OGRAVE;d2 OGT;29c1 OHBAR;29b5 OHM;3a9 OINT;222e
  OLARR;21ba OLCIR;29be OLCROSS;29bb OLINE;203e OLT;29c0 OMACR;14c OMEGA;3a9 OMICRON;39f OMID;29b6 OMINUS;2296
  OOPF;1d560 OPAR;29b7 OPERP;29b9 OPLUS;2295 OR;2228 ORARR;21bb ORD;2a5d ORDER;2134 ORDEROF;2134 ORDF;aa ORDM;ba
  ORIGOF;22b6 OROR;2a56 ORSLOPE;2a57 ORV;2a5b OSCR;2134 OSLASH;d8 OSOL;2298 OTILDE;d5 OTIMES;2297 OTIMESAS;2a36 OUML;d6
  OVBAR;233d Oacute;d3 Ocirc;d4 Ocy;41e Odblac;150 Ofr;1d512 Ograve;d2 Omacr;14c Omega;3a9 Omicron;39f Oopf;1d546
  OpenCurlyDoubleQuote;201c OpenCurlyQuote;2018 Or;2a54 Oscr;1d4aa Oslash;d8 Otilde;d5 Otimes;2a37 Ouml;d6 OverBar;203e
  OverBrace;23de OverBracket;23b4 OverParenthesis;23dc PAR;2225 PARA;b6 PARALLEL;2225 PARSIM;2af3 PARSL;2afd PART;2202
  PCY;41f PERCNT;25 PERIOD;2e PERMIL;2030 PERP;22a5 PERTENK;2031 PFR;1d52d PHI;3a6 PHIV;3a6 PHMMAT;2133 PHONE;260e
  PI;3a0 PITCHFORK;22d4 PIV;3a0 PLANCK;210f PLANCKH;210e PLANKV;210f PLUS;2b PLUSACIR;2a23 PLUSB;229e PLUSCIR;2a22
  PLUSDO;2214 PLUSDU;2a25 PLUSE;2a72 PLUSMN;b1 PLUSSIM;2a26 PLUSTWO;2a27 PM;b1 POINTINT;2a15 POPF;1d561 POUND;a3 PR;227a
  PRAP;2ab7 PRCUE;227c PRE;2aaf PREC;227a PRECAPPROX;2ab7 PRECCURLYEQ;227c PRECEQ;2aaf PRECNAPPROX;2ab9 PRECNEQQ;2ab5
  PRECNSIM;22e8 PRECSIM;227e PRIME;2032 PRIMES;2119 PRNAP;2ab9 PRNSIM;22e8 PROD;220f PROFALAR;232e PROFLINE;2312
  PROFSURF;2313 PROP;221d PROPTO;221d PRSIM;227e PRUREL;22b0 PSCR;1d4c5 PSI;3a8 PUNCSP;2008 PartialD;2202 Pcy;41f
  Pfr;1d513 Phi;3a6 Pi;3a0 PlusMinus;b1 Poincareplane;210c Popf;2119 Pr;2abb Precedes;227a PrecedesEqual;2aaf
  PrecedesSlantEqual;227c PrecedesTilde;227e Prime;2033 Product;220f Proportion;2237 Proportional;221d Pscr;1d4ab
  Psi;3a8 QFR;1d52e QINT;2a0c QOPF;1d562 QPRIME;2057 QSCR;1d4c6 QUATERNIONS;210d QUATINT;2a16 QUEST;3f QUESTEQ;225f
  QUOT;22 Qfr;1d514 Qopf;211a Qscr;1d4ac RACE;223d+331 RACUTE;154 RADIC;221a RAEMPTYV;29b3 RANG;27e9 RANGD;2992
  RANGE;29a5 RANGLE;27e9 RAQUO;bb RARR;2192 RARRAP;2975 RARRB;21e5 RARRBFS;2920 RARRC;2933 RARRFS;291e RARRHK;21aa
  RARRLP;21ac RARRPL;2945 RARRSIM;2974 RARRTL;21a3 RARRW;219d RATAIL;291a RATIO;2236 RATIONALS;211a RBARR;290d
  RBBRK;2773 RBRACE;7d RBRACK;5d RBRKE;298c RBRKSLD;298e RBRKSLU;2990 RBarr;2910 RCARON;158 RCEDIL;156 RCEIL;2309
  RCUB;7d RCY;420 RDCA;2937 RDLDHAR;2969 RDQUO;201d RDQUOR;201d RDSH;21b3 REAL;211c REALINE;211b REALPART;211c
  REALS;211d RECT;25ad REG;ae RFISHT;297d RFLOOR;230b RFR;1d52f RHARD;21c1 RHARU;21c0 RHARUL;296c RHO;3a1 RHOV;3a1
  RIGHTARROW;2192 RIGHTARROWTAIL;21a3 RIGHTHARPOONDOWN;21c1 RIGHTHARPOONUP;21c0 RIGHTLEFTARROWS;21c4
  RIGHTLEFTHARPOONS;21cc RIGHTRIGHTARROWS;21c9 RIGHTSQUIGARROW;219d RIGHTTHREETIMES;22cc RING;2da RISINGDOTSEQ;2253
  RLARR;21c4 RLHAR;21cc RLM;200f RMOUST;23b1 RMOUSTACHE;23b1 RNMID;2aee ROANG;27ed ROARR;21fe ROBRK;27e7 ROPAR;2986
  ROPF;1d563 ROPLUS;2a2e ROTIMES;2a35 RPAR;29 RPARGT;2994 RPPOLINT;2a12 RRARR;21c9 RSAQUO;203a RSCR;1d4c7 RSH;21b1
  RSQB;5d RSQUO;2019 RSQUOR;2019 RTHREE;22cc RTIMES;22ca RTRI;25b9 RTRIE;22b5 RTRIF;25b8 RTRILTRI;29ce RULUHAR;2968
  RX;211e Racute;154 Rang;27eb Rarr;21a0 Rarrtl;2916 Rcaron;158 Rcedil;156 Rcy;420 Re;211c ReverseElement;220b
  ReverseEquilibrium;21cb ReverseUpEquilibrium;296f Rfr;211c Rho;3a1 RightAngleBracket;27e9 RightArrow;2192
  RightArrowBar;21e5 RightArrowLeftArrow;21c4 RightCeiling;2309 RightDoubleBracket;27e7 RightDownTeeVector;295d
  RightDownVector;21c2 RightDownVectorBar;2955 RightFloor;230b RightTee;22a2 RightTeeArrow;21a6 RightTeeVector;295b
  RightTriangle;22b3 RightTriangleBar;29d0 RightTriangleEqual;22b5 RightUpDownVector;294f RightUpTeeVector;295c
  RightUpVector;21be RightUpVectorBar;2954 RightVector;21c0 RightVectorBar;2953 Rightarrow;21d2 Ropf;211d
  RoundImplies;2970 Rrightarrow;21db Rscr;211b Rsh;21b1 RuleDelayed;29f4 SACUTE;15a SBQUO;201a SC;227b SCAP;2ab8
  SCARON;160 SCCUE;227d SCE;2ab0 SCEDIL;15e SCIRC;15c SCNAP;2aba SCNSIM;22e9 SCPOLINT;2a13 SCSIM;227f SCY;421 SDOT;22c5
  SDOTB;22a1 SDOTE;2a66 SEARHK;2925 SEARR;2198 SEARROW;2198 SECT;a7 SEMI;3b SESWAR;2929 SETMINUS;2216 SETMN;2216
  SEXT;2736 SFR;1d530 SFROWN;2322 SHARP;266f SHCHCY;429 SHCHcy;429 SHCY;428 SHORTMID;2223 SHORTPARALLEL;2225 SHY;ad
  SHcy;428 SIGMA;3a3 SIGMAF;3a3 SIGMAV;3a3 SIM;223c SIMDOT;2a6a SIME;2243 SIMEQ;2243 SIMG;2a9e SIML;2a9d SIMNE;2246
  SIMPLUS;2a24 SIMRARR;2972 SLARR;2190 SMALLSETMINUS;2216 SMASHP;2a33 SMEPARSL;29e4 SMID;2223 SMILE;2323 SMT;2aaa
  SMTE;2aac SMTES;2aac+fe00 SOFTCY;42c SOFTcy;42c SOL;2f SOLB;29c4 SOLBAR;233f SOPF;1d564 SPADES;2660 SPADESUIT;2660
  SPAR;2225 SQCAP;2293 SQCAPS;2293+fe00 SQCUP;2294 SQCUPS;2294+fe00 SQSUB;228f SQSUBE;2291 SQSUBSET;228f SQSUBSETEQ;2291
  SQSUP;2290 SQSUPE;2292 SQSUPSET;2290 SQSUPSETEQ;2292 SQU;25a1 SQUARE;25a1 SQUARF;25aa SQUF;25aa SRARR;2192 SSCR;1d4c8
  SSETMN;2216 SSMILE;2323 SSTARF;22c6 STAR;2606 STARF;2605 STRAIGHTEPSILON;395 STRAIGHTPHI;3a6 STRNS;af SUB;2282
  SUBDOT;2abd SUBE;2286 SUBEDOT;2ac3 SUBMULT;2ac1 SUBNE;228a SUBPLUS;2abf SUBRARR;2979 SUBSET;2282 SUBSETEQ;2286
  SUBSETEQQ;2ac5 SUBSETNEQ;228a SUBSETNEQQ;2acb SUBSIM;2ac7 SUBSUB;2ad5 SUBSUP;2ad3 SUCC;227b SUCCAPPROX;2ab8
  SUCCCURLYEQ;227d SUCCEQ;2ab0 SUCCNAPPROX;2aba SUCCNEQQ;2ab6 SUCCNSIM;22e9 SUCCSIM;227f SUM;2211 SUNG;266a SUP1;b9
  SUP2;b2 SUP3;b3 SUP;2283 SUPDOT;2abe SUPDSUB;2ad8 SUPE;2287 SUPEDOT;2ac4 SUPHSOL;27c9 SUPHSUB;2ad7 SUPLARR;297b
  SUPMULT;2ac2 SUPNE;228b SUPPLUS;2ac0 SUPSET;2283 SUPSETEQ;2287 SUPSETEQQ;2ac6 SUPSETNEQ;228b SUPSETNEQQ;2acc
  SUPSIM;2ac8 SUPSUB;2ad4 SUPSUP;2ad6 SWARHK;2926 SWARR;2199 SWARROW;2199 SWNWAR;292a SZLIG;53+53 Sacute;15a Sc;2abc
  Scaron;160 Scedil;15e Scirc;15c Scy;421 Sfr;1d516 ShortDownArrow;2193 ShortLeftArrow;2190 ShortRightArrow;2192
  ShortUpArrow;2191 Sigma;3a3 SmallCircle;2218 Sopf;1d54a Sqrt;221a Square;25a1 SquareIntersection;2293
  SquareSubset;228f SquareSubsetEqual;2291 SquareSuperset;2290 SquareSupersetEqual;2292 SquareUnion;2294 Sscr;1d4ae
  Star;22c6 Sub;22d0 Subset;22d0 SubsetEqual;2286 Succeeds;227b SucceedsEqual;2ab0 SucceedsSlantEqual;227d
  SucceedsTilde;227f SuchThat;220b Sum;2211 Sup;22d1 Superset;2283 SupersetEqual;2287 Supset;22d1 TARGET;2316 TAU;3a4
  TBRK;23b4 TCARON;164 TCEDIL;162 TCY;422 TDOT;20db TELREC;2315 TFR;1d531 THERE4;2234 THEREFORE;2234 THETA;398
  THETASYM;398 THETAV;398 THICKAPPROX;2248 THICKSIM;223c THINSP;2009 THKAP;2248 THKSIM;223c THORN;de TILDE;2dc TIMES;d7
  TIMESB;22a0 TIMESBAR;2a31 TIMESD;2a30 TINT;222d TOEA;2928 TOP;22a4 TOPBOT;2336 TOPCIR;2af1 TOPF;1d565 TOPFORK;2ada
  TOSA;2929 TPRIME;2034 TRADE;2122 TRIANGLE;25b5 TRIANGLEDOWN;25bf TRIANGLELEFT;25c3 TRIANGLELEFTEQ;22b4 TRIANGLEQ;225c
  TRIANGLERIGHT;25b9 TRIANGLERIGHTEQ;22b5 TRIDOT;25ec TRIE;225c TRIMINUS;2a3a TRIPLUS;2a39 TRISB;29cd TRITIME;2a3b
  TRPEZIUM;23e2 TSCR;1d4c9 TSCY;426 TSHCY;40b TSHcy;40b TSTROK;166 TScy;426 TWIXT;226c TWOHEADLEFTARROW;219e
  TWOHEADRIGHTARROW;21a0 Tab;9 Tau;3a4 Tcaron;164 Tcedil;162 Tcy;422 Tfr;1d517 Therefore;2234 Theta;398
  ThickSpace;205f+200a ThinSpace;2009 Tilde;223c TildeEqual;2243 TildeFullEqual;2245 TildeTilde;2248 Topf;1d54b
  TripleDot;20db Tscr;1d4af Tstrok;166 UACUTE;da UARR;2191 UBRCY;40e UBREVE;16c UCIRC;db UCY;423 UDARR;21c5 UDBLAC;170
  UDHAR;296e UFISHT;297e UFR;1d532 UGRAVE;d9 UHARL;21bf UHARR;21be UHBLK;2580 ULCORN;231c ULCORNER;231c ULCROP;230f
  ULTRI;25f8 UMACR;16a UML;a8 UOGON;172 UOPF;1d566 UPARROW;2191 UPDOWNARROW;2195 UPHARPOONLEFT;21bf UPHARPOONRIGHT;21be
  UPLUS;228e UPSI;3a5 UPSIH;3d2 UPSILON;3a5 UPUPARROWS;21c8 URCORN;231d URCORNER;231d URCROP;230e URING;16e URTRI;25f9
  USCR;1d4ca UTDOT;22f0 UTILDE;168 UTRI;25b5 UTRIF;25b4 UUARR;21c8 UUML;dc UWANGLE;29a7 Uacute;da Uarr;219f
  Uarrocir;2949 Ubrcy;40e Ubreve;16c Ucirc;db Ucy;423 Udblac;170 Ufr;1d518 Ugrave;d9 Umacr;16a UnderBar;5f
  UnderBrace;23df UnderBracket;23b5 UnderParenthesis;23dd Union;22c3 UnionPlus;228e Uogon;172 Uopf;1d54c UpArrow;2191
  UpArrowBar;2912 UpArrowDownArrow;21c5 UpDownArrow;2195 UpEquilibrium;296e UpTee;22a5 UpTeeArrow;21a5 Uparrow;21d1
  Updownarrow;21d5 UpperLeftArrow;2196 UpperRightArrow;2197 Upsi;3d2 Upsilon;3a5 Uring;16e Uscr;1d4b0 Utilde;168 Uuml;dc
  VANGRT;299c VAREPSILON;395 VARKAPPA;39a VARNOTHING;2205 VARPHI;3a6 VARPI;3a0 VARPROPTO;221d VARR;2195 VARRHO;3a1
  VARSIGMA;3a3 VARSUBSETNEQ;228a+fe00 VARSUBSETNEQQ;2acb+fe00 VARSUPSETNEQ;228b+fe00 VARSUPSETNEQQ;2acc+fe00
  VARTHETA;398 VARTRIANGLELEFT;22b2 VARTRIANGLERIGHT;22b3 VCY;412 VDASH;22a2 VDash;22ab VEE;2228 VEEBAR;22bb VEEEQ;225a
  VELLIP;22ee VERBAR;7c VERT;7c VFR;1d533 VLTRI;22b2 VNSUB;2282+20d2 VNSUP;2283+20d2 VOPF;1d567 VPROP;221d VRTRI;22b3
  VSCR;1d4cb VSUBNE;228a+fe00 VSUPNE;228b+fe00 VZIGZAG;299a Vbar;2aeb Vcy;412 Vdash;22a9 Vdashl;2ae6 Vee;22c1
  Verbar;2016 Vert;2016 VerticalBar;2223 VerticalLine;7c VerticalSeparator;2758 VerticalTilde;2240 VeryThinSpace;200a
  Vfr;1d519 Vopf;1d54d Vscr;1d4b1 Vvdash;22aa WCIRC;174 WEDBAR;2a5f WEDGE;2227 WEDGEQ;2259 WEIERP;2118 WFR;1d534
  WOPF;1d568 WP;2118 WR;2240 WREATH;2240 WSCR;1d4cc Wcirc;174 Wedge;22c0 Wfr;1d51a Wopf;1d54e Wscr;1d4b2 XCAP;22c2
  XCIRC;25ef XCUP;22c3 XDTRI;25bd XFR;1d535 XHARR;27f7 XI;39e XLARR;27f5 XMAP;27fc XNIS;22fb XODOT;2a00 XOPF;1d569
  XOPLUS;2a01 XOTIME;2a02 XRARR;27f6 XSCR;1d4cd XSQCUP;2a06 XUPLUS;2a04 XUTRI;25b3 XVEE;22c1 XWEDGE;22c0 Xfr;1d51b
  Xi;39e Xopf;1d54f Xscr;1d4b3 YACUTE;dd YACY;42f YAcy;42f YCIRC;176 YCY;42b YEN;a5 YFR;1d536 YICY;407 YIcy;407
  YOPF;1d56a YSCR;1d4ce YUCY;42e YUML;178 YUcy;42e Yacute;dd Ycirc;176 Ycy;42b Yfr;1d51c Yopf;1d550 Yscr;1d4b4 Yuml;178
  ZACUTE;179 ZCARON;17d ZCY;417 ZDOT;17b ZEETRF;2128 ZETA;396 ZFR;1d537 ZHCY;416 ZHcy;416 ZIGRARR;21dd ZOPF;1d56b
  ZSCR;1d4cf ZWJ;200d ZWNJ;200c Zacute;179 Zcaron;17d Zcy;417 Zdot;17b ZeroWidthSpace;200b Zeta;396 Zfr;2128 Zopf;2124
  Zscr;1d4b5 aacute;e1 abreve;103 ac;223e acE;223e+333 acd;223f acirc;e2 acute;b4 acy;430 aelig;e6 af;2061 afr;1d51e
  agrave;e0 alefsym;2135 aleph;2135 alpha;3b1 amacr;101 amalg;2a3f amp;26 and;2227 andand;2a55 andd;2a5c andslope;2a58
  andv;2a5a ang;2220 ange;29a4 angle;2220 angmsd;2221 angmsdaa;29a8 angmsdab;29a9 angmsdac;29aa angmsdad;29ab
  angmsdae;29ac angmsdaf;29ad angmsdag;29ae angmsdah;29af angrt;221f angrtvb;22be angrtvbd;299d angsph;2222 angst;c5
  angzarr;237c aogon;105 aopf;1d552 ap;2248 apE;2a70 apacir;2a6f ape;224a apid;224b apos;27 approx;2248 approxeq;224a
  aring;e5 ascr;1d4b6 ast;2a asymp;2248 asympeq;224d atilde;e3 auml;e4 awconint;2233 awint;2a11 bNot;2aed backcong;224c
  backepsilon;3f6 backprime;2035 backsim;223d backsimeq;22cd barvee;22bd barwed;2305 barwedge;2305 bbrk;23b5
  bbrktbrk;23b6 bcong;224c bcy;431 bdquo;201e becaus;2235 because;2235 bemptyv;29b0 bepsi;3f6 bernou;212c beta;3b2
  beth;2136 between;226c bfr;1d51f bigcap;22c2 bigcirc;25ef bigcup;22c3 bigodot;2a00 bigoplus;2a01 bigotimes;2a02
  bigsqcup;2a06 bigstar;2605 bigtriangledown;25bd bigtriangleup;25b3 biguplus;2a04 bigvee;22c1 bigwedge;22c0 bkarow;290d
  blacklozenge;29eb blacksquare;25aa blacktriangle;25b4 blacktriangledown;25be blacktriangleleft;25c2
  blacktriangleright;25b8 blank;2423 blk12;2592 blk14;2591 blk34;2593 block;2588 bne;3d+20e5 bnequiv;2261+20e5 bnot;2310
  bopf;1d553 bot;22a5 bottom;22a5 bowtie;22c8 boxDL;2557 boxDR;2554 boxDl;2556 boxDr;2553 boxH;2550 boxHD;2566
  boxHU;2569 boxHd;2564 boxHu;2567 boxUL;255d boxUR;255a boxUl;255c boxUr;2559 boxV;2551 boxVH;256c boxVL;2563
  boxVR;2560 boxVh;256b boxVl;2562 boxVr;255f boxbox;29c9 boxdL;2555 boxdR;2552 boxdl;2510 boxdr;250c boxh;2500
  boxhD;2565 boxhU;2568 boxhd;252c boxhu;2534 boxminus;229f boxplus;229e boxtimes;22a0 boxuL;255b boxuR;2558 boxul;2518
  boxur;2514 boxv;2502 boxvH;256a boxvL;2561 boxvR;255e boxvh;253c boxvl;2524 boxvr;251c bprime;2035 breve;2d8 brvbar;a6
  bscr;1d4b7 bsemi;204f bsim;223d bsime;22cd bsol;5c bsolb;29c5 bsolhsub;27c8 bull;2022 bullet;2022 bump;224e bumpE;2aae
  bumpe;224f bumpeq;224f cacute;107 cap;2229 capand;2a44 capbrcup;2a49 capcap;2a4b capcup;2a47 capdot;2a40
  caps;2229+fe00 caret;2041 caron;2c7 ccaps;2a4d ccaron;10d ccedil;e7 ccirc;109 ccups;2a4c ccupssm;2a50 cdot;10b
  cedil;b8 cemptyv;29b2 cent;a2 centerdot;b7 cfr;1d520 chcy;447 check;2713 checkmark;2713 chi;3c7 cir;25cb cirE;29c3
  circ;2c6 circeq;2257 circlearrowleft;21ba circlearrowright;21bb circledR;ae circledS;24c8 circledast;229b
  circledcirc;229a circleddash;229d cire;2257 cirfnint;2a10 cirmid;2aef cirscir;29c2 clubs;2663 clubsuit;2663 colon;3a
  colone;2254 coloneq;2254 comma;2c commat;40 comp;2201 compfn;2218 complement;2201 complexes;2102 cong;2245
  congdot;2a6d conint;222e copf;1d554 coprod;2210 copy;a9 copysr;2117 crarr;21b5 cross;2717 cscr;1d4b8 csub;2acf
  csube;2ad1 csup;2ad0 csupe;2ad2 ctdot;22ef cudarrl;2938 cudarrr;2935 cuepr;22de cuesc;22df cularr;21b6 cularrp;293d
  cup;222a cupbrcap;2a48 cupcap;2a46 cupcup;2a4a cupdot;228d cupor;2a45 cups;222a+fe00 curarr;21b7 curarrm;293c
  curlyeqprec;22de curlyeqsucc;22df curlyvee;22ce curlywedge;22cf curren;a4 curvearrowleft;21b6 curvearrowright;21b7
  cuvee;22ce cuwed;22cf cwconint;2232 cwint;2231 cylcty;232d dArr;21d3 dHar;2965 dagger;2020 daleth;2138 darr;2193
  dash;2010 dashv;22a3 dbkarow;290f dblac;2dd dcaron;10f dcy;434 dd;2146 ddagger;2021 ddarr;21ca ddotseq;2a77 deg;b0
  delta;3b4 demptyv;29b1 dfisht;297f dfr;1d521 dharl;21c3 dharr;21c2 diam;22c4 diamond;22c4 diamondsuit;2666 diams;2666
  die;a8 digamma;3dd disin;22f2 div;f7 divide;f7 divideontimes;22c7 divonx;22c7 djcy;452 dlcorn;231e dlcrop;230d
  dollar;24 dopf;1d555 dot;2d9 doteq;2250 doteqdot;2251 dotminus;2238 dotplus;2214 dotsquare;22a1 doublebarwedge;2306
  downarrow;2193 downdownarrows;21ca downharpoonleft;21c3 downharpoonright;21c2 drbkarow;2910 drcorn;231f drcrop;230c
  dscr;1d4b9 dscy;455 dsol;29f6 dstrok;111 dtdot;22f1 dtri;25bf dtrif;25be duarr;21f5 duhar;296f dwangle;29a6 dzcy;45f
  dzigrarr;27ff eDDot;2a77 eDot;2251 eacute;e9 easter;2a6e ecaron;11b ecir;2256 ecirc;ea ecolon;2255 ecy;44d edot;117
  ee;2147 efDot;2252 efr;1d522 eg;2a9a egrave;e8 egs;2a96 egsdot;2a98 el;2a99 elinters;23e7 ell;2113 els;2a95
  elsdot;2a97 emacr;113 empty;2205 emptyset;2205 emptyv;2205 emsp13;2004 emsp14;2005 emsp;2003 eng;14b ensp;2002
  eogon;119 eopf;1d556 epar;22d5 eparsl;29e3 eplus;2a71 epsi;3b5 epsilon;3b5 epsiv;3f5 eqcirc;2256 eqcolon;2255
  eqsim;2242 eqslantgtr;2a96 eqslantless;2a95 equals;3d equest;225f equiv;2261 equivDD;2a78 eqvparsl;29e5 erDot;2253
  erarr;2971 escr;212f esdot;2250 esim;2242 eta;3b7 eth;f0 euml;eb euro;20ac excl;21 exist;2203 expectation;2130
  exponentiale;2147 fallingdotseq;2252 fcy;444 female;2640 ffilig;fb03 fflig;fb00 ffllig;fb04 ffr;1d523 filig;fb01
  fjlig;66+6a flat;266d fllig;fb02 fltns;25b1 fnof;192 fopf;1d557 forall;2200 fork;22d4 forkv;2ad9 fpartint;2a0d
  frac12;bd frac13;2153 frac14;bc frac15;2155 frac16;2159 frac18;215b frac23;2154 frac25;2156 frac34;be frac35;2157
  frac38;215c frac45;2158 frac56;215a frac58;215d frac78;215e frasl;2044 frown;2322 fscr;1d4bb gE;2267 gEl;2a8c
  gacute;1f5 gamma;3b3 gammad;3dd gap;2a86 gbreve;11f gcirc;11d gcy;433 gdot;121 ge;2265 gel;22db geq;2265 geqq;2267
  geqslant;2a7e ges;2a7e gescc;2aa9 gesdot;2a80 gesdoto;2a82 gesdotol;2a84 gesl;22db+fe00 gesles;2a94 gfr;1d524 gg;226b
  ggg;22d9 gimel;2137 gjcy;453 gl;2277 glE;2a92 gla;2aa5 glj;2aa4 gnE;2269 gnap;2a8a gnapprox;2a8a gne;2a88 gneq;2a88
  gneqq;2269 gnsim;22e7 gopf;1d558 grave;60 gscr;210a gsim;2273 gsime;2a8e gsiml;2a90 gt;3e gtcc;2aa7 gtcir;2a7a
  gtdot;22d7 gtlPar;2995 gtquest;2a7c gtrapprox;2a86 gtrarr;2978 gtrdot;22d7 gtreqless;22db gtreqqless;2a8c gtrless;2277
  gtrsim;2273 gvertneqq;2269+fe00 gvnE;2269+fe00 hArr;21d4 hairsp;200a half;bd hamilt;210b hardcy;44a harr;2194
  harrcir;2948 harrw;21ad hbar;210f hcirc;125 hearts;2665 heartsuit;2665 hellip;2026 hercon;22b9 hfr;1d525 hksearow;2925
  hkswarow;2926 hoarr;21ff homtht;223b hookleftarrow;21a9 hookrightarrow;21aa hopf;1d559 horbar;2015 hscr;1d4bd
  hslash;210f hstrok;127 hybull;2043 hyphen;2010 iacute;ed ic;2063 icirc;ee icy;438 iecy;435 iexcl;a1 iff;21d4 ifr;1d526
  igrave;ec ii;2148 iiiint;2a0c iiint;222d iinfin;29dc iiota;2129 ijlig;133 imacr;12b image;2111 imagline;2110
  imagpart;2111 imath;131 imof;22b7 imped;1b5 in;2208 incare;2105 infin;221e infintie;29dd inodot;131 int;222b
  intcal;22ba integers;2124 intercal;22ba intlarhk;2a17 intprod;2a3c iocy;451 iogon;12f iopf;1d55a iota;3b9 iprod;2a3c
  iquest;bf iscr;1d4be isin;2208 isinE;22f9 isindot;22f5 isins;22f4 isinsv;22f3 isinv;2208 it;2062 itilde;129 iukcy;456
  iuml;ef jcirc;135 jcy;439 jfr;1d527 jmath;237 jopf;1d55b jscr;1d4bf jsercy;458 jukcy;454 kappa;3ba kappav;3f0
  kcedil;137 kcy;43a kfr;1d528 kgreen;138 khcy;445 kjcy;45c kopf;1d55c kscr;1d4c0 lAarr;21da lArr;21d0 lAtail;291b
  lBarr;290e lE;2266 lEg;2a8b lHar;2962 lacute;13a laemptyv;29b4 lagran;2112 lambda;3bb lang;27e8 langd;2991 langle;27e8
  lap;2a85 laquo;ab larr;2190 larrb;21e4 larrbfs;291f larrfs;291d larrhk;21a9 larrlp;21ab larrpl;2939 larrsim;2973
  larrtl;21a2 lat;2aab latail;2919 late;2aad lates;2aad+fe00 lbarr;290c lbbrk;2772 lbrace;7b lbrack;5b lbrke;298b
  lbrksld;298f lbrkslu;298d lcaron;13e lcedil;13c lceil;2308 lcub;7b lcy;43b ldca;2936 ldquo;201c ldquor;201e
  ldrdhar;2967 ldrushar;294b ldsh;21b2 le;2264 leftarrow;2190 leftarrowtail;21a2 leftharpoondown;21bd leftharpoonup;21bc
  leftleftarrows;21c7 leftrightarrow;2194 leftrightarrows;21c6 leftrightharpoons;21cb leftrightsquigarrow;21ad
  leftthreetimes;22cb leg;22da leq;2264 leqq;2266 leqslant;2a7d les;2a7d lescc;2aa8 lesdot;2a7f lesdoto;2a81
  lesdotor;2a83 lesg;22da+fe00 lesges;2a93 lessapprox;2a85 lessdot;22d6 lesseqgtr;22da lesseqqgtr;2a8b lessgtr;2276
  lesssim;2272 lfisht;297c lfloor;230a lfr;1d529 lg;2276 lgE;2a91 lhard;21bd lharu;21bc lharul;296a lhblk;2584 ljcy;459
  ll;226a llarr;21c7 llcorner;231e llhard;296b lltri;25fa lmidot;140 lmoust;23b0 lmoustache;23b0 lnE;2268 lnap;2a89
  lnapprox;2a89 lne;2a87 lneq;2a87 lneqq;2268 lnsim;22e6 loang;27ec loarr;21fd lobrk;27e6 longleftarrow;27f5
  longleftrightarrow;27f7 longmapsto;27fc longrightarrow;27f6 looparrowleft;21ab looparrowright;21ac lopar;2985
  lopf;1d55d loplus;2a2d lotimes;2a34 lowast;2217 lowbar;5f loz;25ca lozenge;25ca lozf;29eb lpar;28 lparlt;2993
  lrarr;21c6 lrcorner;231f lrhar;21cb lrhard;296d lrm;200e lrtri;22bf lsaquo;2039 lscr;1d4c1 lsh;21b0 lsim;2272
  lsime;2a8d lsimg;2a8f lsqb;5b lsquo;2018 lsquor;201a lstrok;142 lt;3c ltcc;2aa6 ltcir;2a79 ltdot;22d6 lthree;22cb
  ltimes;22c9 ltlarr;2976 ltquest;2a7b ltrPar;2996 ltri;25c3 ltrie;22b4 ltrif;25c2 lurdshar;294a luruhar;2966
  lvertneqq;2268+fe00 lvnE;2268+fe00 mDDot;223a macr;af male;2642 malt;2720 maltese;2720 map;21a6 mapsto;21a6
  mapstodown;21a7 mapstoleft;21a4 mapstoup;21a5 marker;25ae mcomma;2a29 mcy;43c mdash;2014 measuredangle;2221 mfr;1d52a
  mho;2127 micro;b5 mid;2223 midast;2a midcir;2af0 middot;b7 minus;2212 minusb;229f minusd;2238 minusdu;2a2a mlcp;2adb
  mldr;2026 mnplus;2213 models;22a7 mopf;1d55e mp;2213 mscr;1d4c2 mstpos;223e mu;3bc multimap;22b8 mumap;22b8
  nGg;22d9+338 nGt;226b+20d2 nGtv;226b+338 nLeftarrow;21cd nLeftrightarrow;21ce nLl;22d8+338 nLt;226a+20d2 nLtv;226a+338
  nRightarrow;21cf nVDash;22af nVdash;22ae nabla;2207 nacute;144 nang;2220+20d2 nap;2249 napE;2a70+338 napid;224b+338
  napos;149 napprox;2249 natur;266e natural;266e naturals;2115 nbsp;a0 nbump;224e+338 nbumpe;224f+338 ncap;2a43
  ncaron;148 ncedil;146 ncong;2247 ncongdot;2a6d+338 ncup;2a42 ncy;43d ndash;2013 ne;2260 neArr;21d7 nearhk;2924
  nearr;2197 nearrow;2197 nedot;2250+338 nequiv;2262 nesear;2928 nesim;2242+338 nexist;2204 nexists;2204 nfr;1d52b
  ngE;2267+338 nge;2271 ngeq;2271 ngeqq;2267+338 ngeqslant;2a7e+338 nges;2a7e+338 ngsim;2275 ngt;226f ngtr;226f
  nhArr;21ce nharr;21ae nhpar;2af2 ni;220b nis;22fc nisd;22fa niv;220b njcy;45a nlArr;21cd nlE;2266+338 nlarr;219a
  nldr;2025 nle;2270 nleftarrow;219a nleftrightarrow;21ae nleq;2270 nleqq;2266+338 nleqslant;2a7d+338 nles;2a7d+338
  nless;226e nlsim;2274 nlt;226e nltri;22ea nltrie;22ec nmid;2224 nopf;1d55f not;ac notin;2209 notinE;22f9+338
  notindot;22f5+338 notinva;2209 notinvb;22f7 notinvc;22f6 notni;220c notniva;220c notnivb;22fe notnivc;22fd npar;2226
  nparallel;2226 nparsl;2afd+20e5 npart;2202+338 npolint;2a14 npr;2280 nprcue;22e0 npre;2aaf+338 nprec;2280
  npreceq;2aaf+338 nrArr;21cf nrarr;219b nrarrc;2933+338 nrarrw;219d+338 nrightarrow;219b nrtri;22eb nrtrie;22ed
  nsc;2281 nsccue;22e1 nsce;2ab0+338 nscr;1d4c3 nshortmid;2224 nshortparallel;2226 nsim;2241 nsime;2244 nsimeq;2244
  nsmid;2224 nspar;2226 nsqsube;22e2 nsqsupe;22e3 nsub;2284 nsubE;2ac5+338 nsube;2288 nsubset;2282+20d2 nsubseteq;2288
  nsubseteqq;2ac5+338 nsucc;2281 nsucceq;2ab0+338 nsup;2285 nsupE;2ac6+338 nsupe;2289 nsupset;2283+20d2 nsupseteq;2289
  nsupseteqq;2ac6+338 ntgl;2279 ntilde;f1 ntlg;2278 ntriangleleft;22ea ntrianglelefteq;22ec ntriangleright;22eb
  ntrianglerighteq;22ed nu;3bd num;23 numero;2116 numsp;2007 nvDash;22ad nvHarr;2904 nvap;224d+20d2 nvdash;22ac
  nvge;2265+20d2 nvgt;3e+20d2 nvinfin;29de nvlArr;2902 nvle;2264+20d2 nvlt;3c+20d2 nvltrie;22b4+20d2 nvrArr;2903
  nvrtrie;22b5+20d2 nvsim;223c+20d2 nwArr;21d6 nwarhk;2923 nwarr;2196 nwarrow;2196 nwnear;2927 oS;24c8 oacute;f3
  oast;229b ocir;229a ocirc;f4 ocy;43e odash;229d odblac;151 odiv;2a38 odot;2299 odsold;29bc oelig;153 ofcir;29bf
  ofr;1d52c ogon;2db ograve;f2 ogt;29c1 ohbar;29b5 ohm;3a9 oint;222e olarr;21ba olcir;29be olcross;29bb oline;203e
  olt;29c0 omacr;14d omega;3c9 omicron;3bf omid;29b6 ominus;2296 oopf;1d560 opar;29b7 operp;29b9 oplus;2295 or;2228
  orarr;21bb ord;2a5d order;2134 orderof;2134 ordf;aa ordm;ba origof;22b6 oror;2a56 orslope;2a57 orv;2a5b oscr;2134
  oslash;f8 osol;2298 otilde;f5 otimes;2297 otimesas;2a36 ouml;f6 ovbar;233d par;2225 para;b6 parallel;2225 parsim;2af3
  parsl;2afd part;2202 pcy;43f percnt;25 period;2e permil;2030 perp;22a5 pertenk;2031 pfr;1d52d phi;3c6 phiv;3d5
  phmmat;2133 phone;260e pi;3c0 pitchfork;22d4 piv;3d6 planck;210f planckh;210e plankv;210f plus;2b plusacir;2a23
  plusb;229e pluscir;2a22 plusdo;2214 plusdu;2a25 pluse;2a72 plusmn;b1 plussim;2a26 plustwo;2a27 pm;b1 pointint;2a15
  popf;1d561 pound;a3 pr;227a prE;2ab3 prap;2ab7 prcue;227c pre;2aaf prec;227a precapprox;2ab7 preccurlyeq;227c
  preceq;2aaf precnapprox;2ab9 precneqq;2ab5 precnsim;22e8 precsim;227e prime;2032 primes;2119 prnE;2ab5 prnap;2ab9
  prnsim;22e8 prod;220f profalar;232e profline;2312 profsurf;2313 prop;221d propto;221d prsim;227e prurel;22b0
  pscr;1d4c5 psi;3c8 puncsp;2008 qfr;1d52e qint;2a0c qopf;1d562 qprime;2057 qscr;1d4c6 quaternions;210d quatint;2a16
  quest;3f questeq;225f quot;22 rAarr;21db rArr;21d2 rAtail;291c rBarr;290f rHar;2964 race;223d+331 racute;155
  radic;221a raemptyv;29b3 rang;27e9 rangd;2992 range;29a5 rangle;27e9 raquo;bb rarr;2192 rarrap;2975 rarrb;21e5
  rarrbfs;2920 rarrc;2933 rarrfs;291e rarrhk;21aa rarrlp;21ac rarrpl;2945 rarrsim;2974 rarrtl;21a3 rarrw;219d
  ratail;291a ratio;2236 rationals;211a rbarr;290d rbbrk;2773 rbrace;7d rbrack;5d rbrke;298c rbrksld;298e rbrkslu;2990
  rcaron;159 rcedil;157 rceil;2309 rcub;7d rcy;440 rdca;2937 rdldhar;2969 rdquo;201d rdquor;201d rdsh;21b3 real;211c
  realine;211b realpart;211c reals;211d rect;25ad reg;ae rfisht;297d rfloor;230b rfr;1d52f rhard;21c1 rharu;21c0
  rharul;296c rho;3c1 rhov;3f1 rightarrow;2192 rightarrowtail;21a3 rightharpoondown;21c1 rightharpoonup;21c0
  rightleftarrows;21c4 rightleftharpoons;21cc rightrightarrows;21c9 rightsquigarrow;219d rightthreetimes;22cc ring;2da
  risingdotseq;2253 rlarr;21c4 rlhar;21cc rlm;200f rmoust;23b1 rmoustache;23b1 rnmid;2aee roang;27ed roarr;21fe
  robrk;27e7 ropar;2986 ropf;1d563 roplus;2a2e rotimes;2a35 rpar;29 rpargt;2994 rppolint;2a12 rrarr;21c9 rsaquo;203a
  rscr;1d4c7 rsh;21b1 rsqb;5d rsquo;2019 rsquor;2019 rthree;22cc rtimes;22ca rtri;25b9 rtrie;22b5 rtrif;25b8
  rtriltri;29ce ruluhar;2968 rx;211e sacute;15b sbquo;201a sc;227b scE;2ab4 scap;2ab8 scaron;161 sccue;227d sce;2ab0
  scedil;15f scirc;15d scnE;2ab6 scnap;2aba scnsim;22e9 scpolint;2a13 scsim;227f scy;441 sdot;22c5 sdotb;22a1 sdote;2a66
  seArr;21d8 searhk;2925 searr;2198 searrow;2198 sect;a7 semi;3b seswar;2929 setminus;2216 setmn;2216 sext;2736
  sfr;1d530 sfrown;2322 sharp;266f shchcy;449 shcy;448 shortmid;2223 shortparallel;2225 shy;ad sigma;3c3 sigmaf;3c2
  sigmav;3c2 sim;223c simdot;2a6a sime;2243 simeq;2243 simg;2a9e simgE;2aa0 siml;2a9d simlE;2a9f simne;2246 simplus;2a24
  simrarr;2972 slarr;2190 smallsetminus;2216 smashp;2a33 smeparsl;29e4 smid;2223 smile;2323 smt;2aaa smte;2aac
  smtes;2aac+fe00 softcy;44c sol;2f solb;29c4 solbar;233f sopf;1d564 spades;2660 spadesuit;2660 spar;2225 sqcap;2293
  sqcaps;2293+fe00 sqcup;2294 sqcups;2294+fe00 sqsub;228f sqsube;2291 sqsubset;228f sqsubseteq;2291 sqsup;2290
  sqsupe;2292 sqsupset;2290 sqsupseteq;2292 squ;25a1 square;25a1 squarf;25aa squf;25aa srarr;2192 sscr;1d4c8 ssetmn;2216
  ssmile;2323 sstarf;22c6 star;2606 starf;2605 straightepsilon;3f5 straightphi;3d5 strns;af sub;2282 subE;2ac5
  subdot;2abd sube;2286 subedot;2ac3 submult;2ac1 subnE;2acb subne;228a subplus;2abf subrarr;2979 subset;2282
  subseteq;2286 subseteqq;2ac5 subsetneq;228a subsetneqq;2acb subsim;2ac7 subsub;2ad5 subsup;2ad3 succ;227b
  succapprox;2ab8 succcurlyeq;227d succeq;2ab0 succnapprox;2aba succneqq;2ab6 succnsim;22e9 succsim;227f sum;2211
  sung;266a sup1;b9 sup2;b2 sup3;b3 sup;2283 supE;2ac6 supdot;2abe supdsub;2ad8 supe;2287 supedot;2ac4 suphsol;27c9
  suphsub;2ad7 suplarr;297b supmult;2ac2 supnE;2acc supne;228b supplus;2ac0 supset;2283 supseteq;2287 supseteqq;2ac6
  supsetneq;228b supsetneqq;2acc supsim;2ac8 supsub;2ad4 supsup;2ad6 swArr;21d9 swarhk;2926 swarr;2199 swarrow;2199
  swnwar;292a szlig;df target;2316 tau;3c4 tbrk;23b4 tcaron;165 tcedil;163 tcy;442 tdot;20db telrec;2315 tfr;1d531
  there4;2234 therefore;2234 theta;3b8 thetasym;3d1 thetav;3d1 thickapprox;2248 thicksim;223c thinsp;2009 thkap;2248
  thksim;223c thorn;fe tilde;2dc times;d7 timesb;22a0 timesbar;2a31 timesd;2a30 tint;222d toea;2928 top;22a4 topbot;2336
  topcir;2af1 topf;1d565 topfork;2ada tosa;2929 tprime;2034 trade;2122 triangle;25b5 triangledown;25bf triangleleft;25c3
  trianglelefteq;22b4 triangleq;225c triangleright;25b9 trianglerighteq;22b5 tridot;25ec trie;225c triminus;2a3a
  triplus;2a39 trisb;29cd tritime;2a3b trpezium;23e2 tscr;1d4c9 tscy;446 tshcy;45b tstrok;167 twixt;226c
  twoheadleftarrow;219e twoheadrightarrow;21a0 uArr;21d1 uHar;2963 uacute;fa uarr;2191 ubrcy;45e ubreve;16d ucirc;fb
  ucy;443 udarr;21c5 udblac;171 udhar;296e ufisht;297e ufr;1d532 ugrave;f9 uharl;21bf uharr;21be uhblk;2580 ulcorn;231c
  ulcorner;231c ulcrop;230f ultri;25f8 umacr;16b uml;a8 uogon;173 uopf;1d566 uparrow;2191 updownarrow;2195
  upharpoonleft;21bf upharpoonright;21be uplus;228e upsi;3c5 upsih;3d2 upsilon;3c5 upuparrows;21c8 urcorn;231d
  urcorner;231d urcrop;230e uring;16f urtri;25f9 uscr;1d4ca utdot;22f0 utilde;169 utri;25b5 utrif;25b4 uuarr;21c8
  uuml;fc uwangle;29a7 vArr;21d5 vBar;2ae8 vBarv;2ae9 vDash;22a8 vangrt;299c varepsilon;3f5 varkappa;3f0 varnothing;2205
  varphi;3d5 varpi;3d6 varpropto;221d varr;2195 varrho;3f1 varsigma;3c2 varsubsetneq;228a+fe00 varsubsetneqq;2acb+fe00
  varsupsetneq;228b+fe00 varsupsetneqq;2acc+fe00 vartheta;3d1 vartriangleleft;22b2 vartriangleright;22b3 vcy;432
  vdash;22a2 vee;2228 veebar;22bb veeeq;225a vellip;22ee verbar;7c vert;7c vfr;1d533 vltri;22b2 vnsub;2282+20d2
  vnsup;2283+20d2 vopf;1d567 vprop;221d vrtri;22b3 vscr;1d4cb vsubnE;2acb+fe00 vsubne;228a+fe00 vsupnE;2acc+fe00
  vsupne;228b+fe00 vzigzag;299a wcirc;175 wedbar;2a5f wedge;2227 wedgeq;2259 weierp;2118 wfr;1d534 wopf;1d568 wp;2118
  wr;2240 wreath;2240 wscr;1d4cc xcap;22c2 xcirc;25ef xcup;22c3 xdtri;25bd xfr;1d535 xhArr;27fa xharr;27f7 xi;3be
  xlArr;27f8 xlarr;27f5 xmap;27fc xnis;22fb xodot;2a00 xopf;1d569 xoplus;2a01 xotime;2a02 xrArr;27f9 xrarr;27f6
  xscr;1d4cd xsqcup;2a06 xuplus;2a04 xutri;25b3 xvee;22c1 xwedge;22c0 yacute;fd yacy;44f ycirc;177 ycy;44b yen;a5
  yfr;1d536 yicy;457 yopf;1d56a yscr;1d4ce yucy;44e yuml;ff zacute;17a zcaron;17e zcy;437 zdot;17c zeetrf;2128 zeta;3b6
  zfr;1d537 zhcy;436 zigrarr;21dd zopf;1d56b zscr;1d4cf zwj;200d zwnj;200c
  """
